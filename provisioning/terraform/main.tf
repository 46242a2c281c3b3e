resource "google_compute_instance" "this" {
  name         = var.name
  project      = var.project
  zone         = var.zone
  machine_type = var.machine_type
  labels       = var.labels
  tags         = local.tags
  metadata     = local.metadata # not metadata_startup_script, a change of which makes the VM anew

  boot_disk {
    initialize_params {
      image = var.image
      size  = var.disk_size_gb
      type  = var.disk_type
    }
  }

  network_interface {
    network    = var.subnetwork == null ? var.network : null
    subnetwork = var.subnetwork

    dynamic "access_config" {
      for_each = var.external_ip ? [true] : []
      content {}
    }
  }

  dynamic "guest_accelerator" {
    for_each = var.gpu == null ? [] : [var.gpu]
    content {
      type  = guest_accelerator.value.type
      count = guest_accelerator.value.count
    }
  }

  scheduling {
    automatic_restart           = true
    on_host_maintenance         = local.has_gpu ? "TERMINATE" : "MIGRATE"
    instance_termination_action = var.max_run_seconds == null ? null : "STOP"

    dynamic "max_run_duration" {
      for_each = var.max_run_seconds == null ? [] : [var.max_run_seconds]
      content {
        seconds = max_run_duration.value
      }
    }
  }

  shielded_instance_config {
    enable_secure_boot          = var.secure_boot
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  dynamic "service_account" {
    for_each = var.service_account == null ? [] : [var.service_account]
    content {
      email  = service_account.value.email
      scopes = service_account.value.scopes
    }
  }
}

resource "google_compute_firewall" "iap" {
  count = var.iap_firewall_rule ? 1 : 0

  name          = "${var.name}-ssh-from-iap"
  project       = var.project
  network       = google_compute_instance.this.network_interface[0].network
  direction     = "INGRESS"
  source_ranges = local.iap_ranges
  target_tags   = [var.name]

  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}
