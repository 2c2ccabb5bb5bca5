"""A child process that is a list of system calls, the last of which is execve(2).

A fork of a Python process copies every page that Python then writes a reference count to, in the child and in the parent: a millisecond
before the child has done anything. This child shares the parent's memory (CLONE_VM, clone(2)), runs no Python, and so copies nothing: a few
instructions on a stack of its own walk through a table of calls. Where those instructions are not written for the machine, a plain
fork walks through the same table.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import struct
from collections.abc import Sequence
from typing import NamedTuple

from pytest_nsjail.kernel.numbers import machine, number, numbers
from pytest_nsjail.kernel.syscall import libc, number_or_raise, syscall

_CLONE_VM = 0x100
_STACK = 64 * 1024
_UNTOUCHED = 1 << 62

# The walk for x86-64, called with the table's address:
#         mov   rbx, rdi              ; the first row
#   next: mov   rax, [rbx]            ; its number, negative at the end
#         test  rax, rax
#         js    end
#         mov   rdi, [rbx+8]          ; six arguments
#         mov   rsi, [rbx+16]
#         mov   rdx, [rbx+24]
#         mov   r10, [rbx+32]
#         mov   r8, [rbx+40]
#         mov   r9, [rbx+48]
#         syscall
#         mov   [rbx+56], rax         ; its result
#         test  rax, rax
#         jns   go
#         cmp   qword [rbx+64], 0     ; may it fail?
#         je    end
#   go:   add   rbx, 72
#         jmp   next
#   end:  mov   edi, 127
#         mov   eax, 231              ; exit_group
#         syscall
_WALK_X86_64 = bytes.fromhex(
    "4889fb488b034885c07830488b7b08488b7310488b53184c8b53204c8b43284c8b4b300f05488943384885c0790748837b400074064883c348ebc8bf7f000000b8e70000000f05"
)


class Call(NamedTuple):
    """One system call of a child.

    :param step: what it is for, in words.
    :param name: the call.
    :param arguments: ints; bytes, passed by their address, with a NUL byte behind them; tuples of bytes, passed as a NULL-terminated array of such addresses.
    :param may_fail: whether the child goes on when it fails.
    """

    step: str
    name: str
    arguments: tuple[int | bytes | tuple[bytes, ...], ...] = ()
    may_fail: bool = False


# A row: the number, six arguments, the result, and whether it may fail.
_ROW = struct.Struct("=9q")
_RESULT, _MAY_FAIL = 7, 8
_END = _ROW.pack(-1, *[0] * 8)
# Of the table, in bytes; what nobody writes to takes no memory.
_ROOM = 1 << 20


class Child:
    """A child that walks through its calls, once it is born.

    :ivar pid: its process id; 0 before.
    :raises OSError: as :meth:`add`.
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        self.pid = 0
        self._calls: list[Call] = []
        self._kept: list[bytes] = []
        # Shared, so that the results are seen here even from a child with memory of its own.
        self._table = mmap.mmap(-1, _ROOM)
        self.add(calls)

    def add(self, calls: Sequence[Call]) -> None:
        """More calls, behind the others: before it is born or, where it shares our memory, while one of those keeps it waiting.

        :raises OSError: ENOSYS for a machine whose call numbers are not known here, E2BIG for more than any child has to do.
        """
        known = numbers()
        for place, call in enumerate(calls, len(self._calls)):
            arguments = [argument if isinstance(argument, int) else self._place(argument) for argument in call.arguments]
            arguments += [0] * (6 - len(arguments))
            if (place + 2) * _ROW.size > _ROOM:
                raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
            _ROW.pack_into(self._table, place * _ROW.size, known[call.name], *arguments, _UNTOUCHED, call.may_fail)
        self._calls += calls
        self._table[len(self._calls) * _ROW.size : (len(self._calls) + 1) * _ROW.size] = _END

    def _place(self, argument: bytes | tuple[bytes, ...]) -> int:
        """The address of an argument in memory, where it stays as long as this object."""
        if isinstance(argument, tuple):
            argument = struct.pack(f"={len(argument) + 1}q", *map(self._place, argument), 0)
        self._kept.append(argument)
        return ctypes.c_void_p.from_buffer(ctypes.c_char_p(argument)).value or 0

    def bear(self, flags: int, *, native: bool = True, apart: bool = False) -> None:
        """Start it.

        :param flags: CLONE_NEW* namespaces that it is born into.
        :param native: whether the instructions for this machine are used, where there are any.
        :param apart: whether its memory is a copy all the same: a kernel that is out of memory kills everybody who shares its victim's.
        :raises OSError: from clone(2).
        """
        walk = prepare() if native else None
        # No handler of Python's may run in a child that shares this memory; the calls end by clearing the mask.
        before = ctypes.c_uint64()
        self._mask(ctypes.c_uint64(2**64 - 1), before)
        try:
            self.pid = self._clone(walk, flags if apart else flags | _CLONE_VM) if walk else self._fork(flags)
        finally:
            self._mask(before, ctypes.c_uint64())

    def _mask(self, blocked: ctypes.c_uint64, before: ctypes.c_uint64) -> None:
        # Not signal.pthread_sigmask(), which makes an enum's member of each of 64 signals: that takes longer than the clone.
        syscall("rt_sigprocmask", number("rt_sigprocmask"), signal.SIG_SETMASK, ctypes.byref(blocked), ctypes.byref(before), ctypes.sizeof(blocked))

    def _clone(self, walk: int, flags: int) -> int:
        self._stack = mmap.mmap(-1, _STACK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        top = _address(self._stack) + _STACK
        return number_or_raise(_clone(walk, top & ~15, flags | signal.SIGCHLD, _address(self._table)), "clone")

    def _fork(self, flags: int) -> int:
        # By the bare call, for os.fork() makes no namespaces; one thread holds no lock that another could have left locked.
        pid = syscall("clone", number("clone"), flags | signal.SIGCHLD, 0, 0, 0, 0)
        if pid == 0:
            for place in range(len(self._calls)):
                call, *row = _ROW.unpack_from(self._table, place * _ROW.size)
                try:
                    row[_RESULT - 1] = syscall("", call, *row[:6])
                except OSError as error:
                    row[_RESULT - 1] = -(error.errno or 1)
                _ROW.pack_into(self._table, place * _ROW.size, call, *row)
                if row[_RESULT - 1] < 0 and not row[_MAY_FAIL - 1]:
                    break
            os._exit(127)
        return pid

    def result(self, name: str) -> int | None:
        """What its first call of a name returned, negative for an errno; None where it was not made."""
        for place, call in enumerate(self._calls):
            if call.name == name:
                result: int = _ROW.unpack_from(self._table, place * _ROW.size)[_RESULT]
                return None if result == _UNTOUCHED else result
        return None

    def failure(self) -> tuple[Call, int] | None:
        """The call that ended it, and the errno; None for one that became its program. To be asked when it has done one or the other."""
        refusal: tuple[Call, int] | None = None
        for place, call in enumerate(self._calls):
            result = _ROW.unpack_from(self._table, place * _ROW.size)[_RESULT]
            if result < 0 and not call.may_fail:
                return call, -result
            if call.name == "execve":
                if result == _UNTOUCHED:
                    return None
                # Of several refusals, one that found a file says more than one that found none (execvp(3)).
                if refusal is None or -result not in (errno.ENOENT, errno.ENOTDIR):
                    refusal = call, -result
        return refusal


_clone = libc("clone", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_code: list[mmap.mmap] = []


def prepare() -> int | None:
    """The address of this machine's walk; made once, before the processes that use it are forked.

    None where there is none, or where the kernel maps no code for us (SELinux's execmem).
    """
    if machine() != "x86_64":
        return None
    if not _code:
        try:
            code = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        except OSError:
            return None
        code.write(_WALK_X86_64)
        _code.append(code)
    return _address(_code[0])


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
