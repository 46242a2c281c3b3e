"""What is said in more than one situation of the fault table."""

CHECK_LOGIN = "Check the user name and that the machine has your public key: ssh -v shows the same attempt."

ENDED_LOGIN = (
    "A start-up file of the shell may end it, the shell may be nologin, or the login may be for one "
    "command only (ForceCommand)."
)
NO_FORWARDING = (
    "AllowTcpForwarding and PermitOpen in its sshd_config decide this, and `restrict` or no-port-"
    "forwarding before your key in authorized_keys."
)
THREE_WAYS = """\
Name one machine, in one of three ways:
  remote-runtime connect NAME              a machine known here, or a Google Compute Engine VM
  remote-runtime connect user@host[:port]  a machine that you reach by SSH
  remote-runtime connect --sandbox         a scratch machine on this computer"""
