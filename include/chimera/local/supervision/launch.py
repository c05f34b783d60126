"""Become another program: `python launch.py [options] -- program argument…`.

The keeper starts each server through this file, so that the work between fork and exec is done in a
small process of its own, without threads and without the project on its path. Options:

    --die-with-parent N  on Linux, get signal N when the parent ends, however it ends
    --user UID           give up root first, since PostgreSQL refuses to run as root
    --shielded           keep one harmless capability, so that other processes of that user, which
                         have none, can neither trace the program nor enter its folder by /proc

It imports only the standard library, because it runs with `-I -S`.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys

# Source: linux/prctl.h, linux/capability.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_NET_BIND_SERVICE = 10
_CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent(number: int) -> None:
    """Ask the kernel for signal `number` at the parent's end; do nothing if not on Linux.

    A change of user clears the request, so call this last. If the parent is already gone, the
    request would never fire, so check for adoption.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    _libc().prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(128 + number)


def _keep_one_capability() -> None:
    """Keep only the capability to listen on ports below 1024, which containers have.

    The kernel lets a process trace another process of its user only if it has all of the other's
    capabilities. Source: cap_ptrace_access_check in security/commoncap.c.
    """
    libc, header, sets = _libc(), _Header(_CAPABILITY_VERSION_3, 0), (_Sets * 2)()
    libc.capget(ctypes.byref(header), sets)
    bit = 1 << _CAP_NET_BIND_SERVICE
    if not sets[0].permitted & bit:
        sys.exit("root lacks CAP_NET_BIND_SERVICE: run as another user than root")
    wanted = (_Sets * 2)(_Sets(bit, bit, bit), _Sets(0, 0, 0))
    libc.capset(ctypes.byref(header), wanted)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_NET_BIND_SERVICE, 0, 0)


def become(uid: int, *, shielded: bool) -> None:
    """Give up root for `uid` and the group of the same number."""
    if shielded:
        _libc().prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    if shielded:
        _keep_one_capability()


def main() -> None:
    """Apply the options, then exec."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--die-with-parent", type=int)
    parser.add_argument("--user", type=int)
    parser.add_argument("--shielded", action="store_true")
    parser.add_argument("program", nargs="+")
    options = parser.parse_args()
    # Reset what the program would inherit: a shell's background job ignores SIGINT, Python SIGPIPE.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE", "SIGQUIT"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    if options.user:
        become(options.user, shielded=options.shielded)
    if options.die_with_parent:
        die_with_parent(options.die_with_parent)
    os.execvp(options.program[0], options.program)  # noqa: S606  # a program, not a shell line


if __name__ == "__main__":
    main()
