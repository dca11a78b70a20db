"""How is a credential replaced that must still exist, without an outage? Below it: targets and secrets."""
