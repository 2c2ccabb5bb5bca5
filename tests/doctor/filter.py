"""Execute a program under a seccomp filter: ``filter.py unshare,mount:EPERM pivot_root:KILL program argument ...``."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

_NUMBERS = {
    "x86_64": {"mount": 165, "pivot_root": 155, "unshare": 272, "setns": 308, "umount2": 166, "swapoff": 168},
    "aarch64": {"mount": 40, "pivot_root": 41, "unshare": 97, "setns": 268, "umount2": 39, "swapoff": 225},
}
_EVERYWHERE = {"open_tree": 428, "move_mount": 429, "mount_setattr": 442}
# include/uapi/linux/bpf_common.h, seccomp.h and prctl.h
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2


def install(rules: dict[str, int]) -> None:
    """Answer these calls with these values, and allow all others."""
    numbers = _NUMBERS[os.uname().machine] | _EVERYWHERE
    code = [struct.pack("HBBI", _LOAD, 0, 0, 0)]
    for call, answer in rules.items():
        code += [struct.pack("HBBI", _IF_EQUAL, 0, 1, numbers[call]), struct.pack("HBBI", _RETURN, 0, 0, answer)]
    code.append(struct.pack("HBBI", _RETURN, 0, 0, _ALLOW))
    filters = ctypes.create_string_buffer(b"".join(code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(filters)))
    libc = ctypes.CDLL(None, use_errno=True)
    prctl = libc.prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    if prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(_SECCOMP, _FILTER, ctypes.addressof(program), 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    rules = {}
    arguments = sys.argv[1:]
    while arguments and ":" in arguments[0]:
        calls, _, answer = arguments.pop(0).partition(":")
        rules.update(dict.fromkeys(calls.split(","), _KILL if answer == "KILL" else _ERRNO | getattr(errno, answer)))
    install(rules)
    os.execv(arguments[0], arguments)
