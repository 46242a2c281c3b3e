# What is computed, apart from the resources, so that it can be tested without Google's provider.
locals {
  metadata = merge(
    var.metadata,
    {
      enable-guest-attributes = "TRUE" # for the host keys, and for how far the script is
      startup-script          = var.startup_script
    },
    var.user == null ? {} : { remote-runtime-user = var.user },
  )

  # Of the commands that the outputs tell.  Without a user they log in as whoever runs them is called there.
  user_option = var.user == null ? "" : " --user ${var.user}"
  login       = var.user == null ? var.name : "${var.user}@${var.name}"

  # Neither can be moved to another host while it runs.
  has_gpu = var.gpu != null || can(regex("^(g2|g4|a2|a3|a4x?)-", var.machine_type))

  iap_ranges = ["35.235.240.0/20"] # https://cloud.google.com/iap/docs/using-tcp-forwarding
  tags       = var.iap_firewall_rule ? distinct(concat(var.tags, [var.name])) : var.tags
}
