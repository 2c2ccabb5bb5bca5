"""Hermetic tests on Linux: programs in throwaway root file systems and fresh namespaces, from pytest.

The rooms, from the user down; imports only go down:

* ``plugin``: options, fixtures, hooks, report sections; the only room that knows pytest.
* ``runtime``: the flow, from a declaration to a result, and the values that a test holds.
* ``image``, ``jail`` and ``network``: root file systems in a store; plans, processes and outcomes; what reaches into a jail and joins several. They
  do not know each other.
* ``resolve`` and ``kernel``: the rules of loaders and of execve(2), pure; every system call.
* ``spec``: what a user declares, as values that check themselves. ``fileview``, ``errors``: what all of them share.

The processes: pytest execs a *keeper*, which forks the *zygote*, PID 1 of a world of its own; the zygote forks an *init* for every jail, one
ahead of need; the init forks the *payload*, which becomes the program. The jail of an isolated test has no init: the zygote makes it, a list of system
calls holds it (:mod:`pytest_nsjail.jail.pause`), and pytest forks itself into it, or has that done ahead by a fork of itself, its *template*
(:mod:`pytest_nsjail.runtime.template`). See :mod:`pytest_nsjail.jail.zygote`. With the first published port pytest execs a *relay* that serves
all of them, see :mod:`pytest_nsjail.network.relay`.

The names below are imported when they are first used: pytest loads this package in every session, and the zygote needs none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_nsjail.errors import JailEnded, NotReady, NsjailError, ProgramFailed, ResolveError, SetupError, SpecError, StartError, Unsupported
    from pytest_nsjail.image.changes import Changes
    from pytest_nsjail.jail.handle import Process
    from pytest_nsjail.jail.outcome import Usage
    from pytest_nsjail.jail.status import Denied, Exceeded, Exited, NotStarted, OutOfMemory, Signaled, Status, TimedOut
    from pytest_nsjail.network.network import Network
    from pytest_nsjail.network.observed import Attempt, Connection, Listener
    from pytest_nsjail.network.published import Client, Published
    from pytest_nsjail.runtime.image import Image, Stage
    from pytest_nsjail.runtime.jail import Jail
    from pytest_nsjail.runtime.result import Result
    from pytest_nsjail.spec.dependency import Copy, Dependency, Directory, Elf, File, Groups, Script, Symlink, Text, Tree, Users
    from pytest_nsjail.spec.jail import ImageSpec, JailSpec
    from pytest_nsjail.spec.limits import Limits
    from pytest_nsjail.spec.mount import Bind, Device, Tmpfs
    from pytest_nsjail.spec.publish import Publish
    from pytest_nsjail.spec.ready import All, Any, Exec, Http, Listening, Log, Notify, Unix

__all__ = [
    "All", "Any", "Attempt", "Bind", "Changes", "Client", "Connection", "Copy", "Denied", "Dependency", "Device", "Directory", "Elf", "Exceeded",
    "Exec", "Exited", "File", "Groups", "Http", "Image", "ImageSpec", "Jail", "JailEnded", "JailSpec", "Limits", "Listener", "Listening", "Log",
    "Network", "NotReady", "NotStarted", "Notify", "NsjailError", "OutOfMemory", "Process", "ProgramFailed", "Publish", "Published", "ResolveError",
    "Result", "Script", "SetupError", "Signaled", "SpecError", "Stage", "StartError", "Status", "Symlink", "Text", "TimedOut", "Tmpfs", "Tree",
    "Unix", "Unsupported", "Usage", "Users",
]

_MODULES = {
    "errors": ("JailEnded", "NotReady", "NsjailError", "ProgramFailed", "ResolveError", "SetupError", "SpecError", "StartError", "Unsupported"),
    "image.changes": ("Changes",),
    "jail.handle": ("Process",),
    "jail.outcome": ("Usage",),
    "jail.status": ("Denied", "Exceeded", "Exited", "NotStarted", "OutOfMemory", "Signaled", "Status", "TimedOut"),
    "network.network": ("Network",),
    "network.observed": ("Attempt", "Connection", "Listener"),
    "network.published": ("Client", "Published"),
    "runtime.image": ("Image", "Stage"),
    "runtime.jail": ("Jail",),
    "runtime.result": ("Result",),
    "spec.dependency": ("Copy", "Dependency", "Directory", "Elf", "File", "Groups", "Script", "Symlink", "Text", "Tree", "Users"),
    "spec.jail": ("ImageSpec", "JailSpec"),
    "spec.limits": ("Limits",),
    "spec.mount": ("Bind", "Device", "Tmpfs"),
    "spec.publish": ("Publish",),
    "spec.ready": ("All", "Any", "Exec", "Http", "Listening", "Log", "Notify", "Unix"),
}


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            globals()[name] = found = getattr(import_module(f"{__name__}.{module}"), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
