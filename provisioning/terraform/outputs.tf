output "id" {
  description = "The VM's numeric id."
  value       = google_compute_instance.this.instance_id
}

output "internal_ip" {
  description = "The VM's internal address."
  value       = google_compute_instance.this.network_interface[0].network_ip
}

output "external_ip" {
  description = "The VM's external address; null if it has none."
  value       = one(google_compute_instance.this.network_interface[0].access_config[*].nat_ip)
}

output "connect" {
  description = "The command that connects it."
  value       = "remote-runtime connect --project ${google_compute_instance.this.project} --zone ${var.zone}${local.user_option} --instance ${var.name}"
}

output "forward" {
  description = "The command that forwards its Jupyter's port without remote-runtime; `remote-runtime-url` on the VM prints the URL."
  value       = "gcloud compute ssh --project ${google_compute_instance.this.project} --zone ${var.zone} ${local.login} -- -L 8888:127.0.0.1:8888"
}
