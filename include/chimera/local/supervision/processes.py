"""Find, measure and end the processes of a stack.

Each process of a stack, however it was forked, has the environment variable CHIMERA_STACK with the
state folder as its value. PostgreSQL overwrites its environment with its title, so its processes
are recognized by their working folder, which is the data folder.
"""

from __future__ import annotations

import contextlib
import platform
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from include.chimera.local.layout import Layout

MARK = "CHIMERA_STACK"
_IS_LINUX = platform.system() == "Linux"
_GONE = (psutil.NoSuchProcess, psutil.ZombieProcess)
_HIDDEN = (*_GONE, psutil.AccessDenied, OSError)


def _is_ours(process: psutil.Process, layout: Layout) -> bool:
    with contextlib.suppress(*_HIDDEN):
        if process.environ().get(MARK) == str(layout.root):
            return True
    return is_database(process, layout)


def is_database(process: psutil.Process, layout: Layout) -> bool:
    """Does the process belong to this stack's PostgreSQL server?"""
    with contextlib.suppress(*_HIDDEN):
        return Path(process.cwd()) == layout.postgres_data
    return False


def find_marked(layout: Layout) -> list[psutil.Process]:
    """Return the stack's running processes, except the caller and its ancestors."""
    me = psutil.Process()
    spared = {me.pid, *(ancestor.pid for ancestor in me.parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in spared or not _is_ours(process, layout):
            continue
        with contextlib.suppress(*_GONE):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to the processes that still run."""
    for process in processes:
        with contextlib.suppress(*_HIDDEN):
            process.send_signal(number)


def sweep(layout: Layout, grace_seconds: float = 6.0) -> list[str]:
    """End all processes of the stack that still run: first stop, then kill. Then clean up.

    Args:
        layout: The stack's layout.
        grace_seconds: How long each of the two rounds (servers, then PostgreSQL) may take to end.

    Returns:
        The names of the processes found, for a message; empty if there were none.
    """
    found = find_marked(layout)
    if not found:
        layout.remove_outside()
        return []
    names = sorted({_name(process) for process in found})
    database = [process for process in found if is_database(process, layout)]
    others = [process for process in found if process not in database]
    for group, number in ((others, signal.SIGTERM), (database, signal.SIGINT)):
        send(group, number)
        _, alive = psutil.wait_procs(group, timeout=grace_seconds)
        send(alive, signal.SIGKILL)
    wait_until(lambda: _kill_rest(layout), grace_seconds)
    layout.remove_outside()
    return names


def _kill_rest(layout: Layout) -> bool:
    """Kill processes forked meanwhile; return whether there were none."""
    left = find_marked(layout)
    send(left, signal.SIGKILL)
    return not left


def wait_until(is_so: Callable[[], bool], seconds: float, every: float = 0.1) -> bool:
    """Poll a condition, at least once; return whether it became true in time."""
    deadline = time.monotonic() + seconds
    while not (found := is_so()) and time.monotonic() < deadline:
        time.sleep(every)
    return found


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(*_HIDDEN):
        return process.name()
    return "gone"


def identity(pid: int) -> float | None:
    """Return when the process started, in seconds since the epoch; None: there is none.

    Pid and start time identify a process for ever. Two readings may differ by a clock tick.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return float(process.create_time())
    except _GONE:
        return None


def is_same(pid: int, created: float) -> bool:
    """Does the process that started at `created` still run under that pid?"""
    now = identity(pid)
    return now is not None and abs(now - created) < 1.0


def memory_kind() -> str:
    """Name the kind of memory that `memory_bytes` sums up on this system."""
    kind = "proportional" if _IS_LINUX else "unique"
    return f"{kind} set size, or the resident one where the system hides that"


def memory_bytes(processes: Iterable[psutil.Process]) -> int:
    """Sum up the memory of the processes.

    On Linux, use the proportional set size, which counts a page shared by n processes 1/n times in
    each, so that the sum is what the processes really take together; elsewhere the unique set size.
    If neither is readable, use the resident set size, which counts shared pages each time: Linux
    hides a process that Airflow made undumpable from all but root.
    """
    return sum(_one_memory(process) for process in processes)


def _one_memory(process: psutil.Process) -> int:
    with contextlib.suppress(*_HIDDEN, ProcessLookupError):
        if _IS_LINUX:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            pss = next(line for line in rollup.splitlines() if line.startswith("Pss:"))
            return int(pss.split()[1]) * 1024
        return int(process.memory_full_info().uss)
    with contextlib.suppress(*_HIDDEN):
        return int(process.memory_info().rss)
    return 0
