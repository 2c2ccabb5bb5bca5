"""What all tests share."""

import signal

pytest_plugins = ["pytester"]

# A shell's background jobs ignore it, and so would every session that is started here (signal(7): what is ignored stays so over an execve).
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
