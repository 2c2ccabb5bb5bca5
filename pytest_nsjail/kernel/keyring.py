"""The session keyring (session-keyring(7)): no namespace holds it, so that a jail would inherit the user's keys."""

from __future__ import annotations

import errno
import os

from pytest_nsjail.kernel.syscall import syscall

_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "loongarch64": 219, "ppc64le": 271, "s390x": 280, "i686": 288, "armv7l": 311}
_JOIN_SESSION_KEYRING = 1


def forget_keys() -> None:
    """Join a fresh, anonymous session keyring; the user's own are another user namespace's then.

    A kernel without keys has nothing to leak, and a container's filter that refuses keyctl(2) refuses it to the jail too.
    """
    try:
        syscall("keyctl", _KEYCTL[os.uname().machine], _JOIN_SESSION_KEYRING, None)
    except (KeyError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EDQUOT):
            raise
