variable "name" {
  description = "The VM's name, by which `remote-runtime connect` finds it."
  type        = string
}

variable "zone" {
  description = "Its zone."
  type        = string
}

variable "startup_script" {
  description = "What `remote-runtime startup-script` printed: file(\"startup-script.sh\"). It runs as root at every boot."
  type        = string

  validation {
    condition     = can(regex("\n# remote-runtime startup-script ", substr(var.startup_script, 0, 1000)))
    error_message = "Not a startup script of remote-runtime: make it by `remote-runtime startup-script > startup-script.sh`."
  }

  validation {
    condition     = length(var.startup_script) <= 262144
    error_message = "A value of a VM's metadata may have 256 KB."
  }
}

variable "user" {
  description = "The account for which Jupyter is started at boot, once it exists. null: at a user's first interactive login by SSH."
  type        = string
  default     = null
}

variable "project" {
  description = "The project. null: the provider's."
  type        = string
  default     = null
}

variable "machine_type" {
  description = "The machine type."
  type        = string
  default     = "e2-standard-4"
}

variable "gpu" {
  description = "GPUs to attach to an N1 machine, such as { type = \"nvidia-tesla-t4\", count = 1 }. G2, A2 and A3 machine types bring theirs along."
  type = object({
    type  = string
    count = number
  })
  default = null
}

variable "image" {
  description = "The image to boot: Debian, Ubuntu, or one of the Deep Learning VM images."
  type        = string
  default     = "projects/debian-cloud/global/images/family/debian-12"
}

variable "disk_size_gb" {
  description = "The size of the boot disk."
  type        = number
  default     = 50
}

variable "disk_type" {
  description = "The type of the boot disk."
  type        = string
  default     = "pd-balanced"
}

variable "network" {
  description = "The network. Not used if a subnetwork is named."
  type        = string
  default     = "default"
}

variable "subnetwork" {
  description = "The subnetwork. null: the network's own in this region."
  type        = string
  default     = null
}

variable "external_ip" {
  description = "Whether the VM has an external address. Without one it is reached through Identity-Aware Proxy, and needs Cloud NAT to install Jupyter."
  type        = bool
  default     = true
}

variable "iap_firewall_rule" {
  description = "Whether to make a firewall rule that lets Identity-Aware Proxy reach this VM's SSH port. No other rule is ever made."
  type        = bool
  default     = false
}

variable "max_run_seconds" {
  description = "How long Google lets the VM run after each start; then it is stopped, and its disk is kept. null: for ever."
  type        = number
  default     = 86400
}

variable "service_account" {
  description = "What the VM may do as. null: it has no service account."
  type = object({
    email  = string
    scopes = list(string)
  })
  default = null
}

variable "secure_boot" {
  description = "Boot signed software only; NVIDIA's drivers may not be."
  type        = bool
  default     = false
}

variable "labels" {
  description = "Labels of the VM. `remote-runtime create` gives its VMs an `owner` besides."
  type        = map(string)
  default     = { created-by = "remote-runtime" }
}

variable "tags" {
  description = "Network tags of the VM."
  type        = list(string)
  default     = []
}

variable "metadata" {
  description = "More metadata of the VM. A script of yours goes into startup-script-url: Google's agent runs both."
  type        = map(string)
  default     = {}

  validation {
    condition     = !contains(keys(var.metadata), "startup-script")
    error_message = "The startup script is remote-runtime's; put yours into startup-script-url."
  }
}
