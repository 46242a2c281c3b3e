# A VM that is ready before anybody connects, by Terraform.  It costs money.
#
#     remote-runtime startup-script > startup-script.sh
#     terraform init
#     terraform apply
#     remote-runtime connect --project my-project --zone us-central1-a --user ada trainer

provider "google" {
  project = "my-project"
}

module "trainer" {
  source = "../../provisioning/terraform"

  name           = "trainer"
  zone           = "us-central1-a"
  user           = "ada"
  startup_script = file("${path.module}/startup-script.sh")
}

output "connect" {
  value = module.trainer.connect
}
