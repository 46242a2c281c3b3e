"""What is said in more than one situation of the fault table."""

ENDED_LOGIN = (
    "A start-up file of the shell may end it, the shell may be nologin, or the login may be for one "
    "command only (ForceCommand)."
)
NO_FORWARDING = (
    "AllowTcpForwarding and PermitOpen in its sshd_config decide this, and `restrict` or no-port-"
    "forwarding before your key in authorized_keys."
)
