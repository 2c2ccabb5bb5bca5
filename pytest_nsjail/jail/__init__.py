"""Jails: the plan, the wire, the processes (keeper, zygote, init or pause, payload), their handles and outcomes."""
