"""Jails: the plan, the wire, the processes (keeper, zygote, init, payload), their handles and outcomes."""
