"""The session keyring (session-keyring(7)): no namespace holds it, so that a jail would inherit the user's keys."""

from __future__ import annotations

import errno

from pytest_nsjail.kernel.numbers import number
from pytest_nsjail.kernel.syscall import syscall

JOIN_SESSION_KEYRING = 1


def forget_keys() -> None:
    """Join a fresh, anonymous session keyring; the user's own are another user namespace's then.

    A kernel without keys has nothing to leak, and a container's filter that refuses keyctl(2) refuses it to the jail too.
    """
    try:
        syscall("keyctl", number("keyctl"), JOIN_SESSION_KEYRING, None)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EDQUOT):
            raise
