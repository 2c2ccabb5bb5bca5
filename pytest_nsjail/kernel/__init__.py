"""Every system call this package makes that Python has no function for, and what this host allows of them."""
