"""The files and folders of the embedded servers, below one state folder."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.chimera.errors import ConfigurationError
from include.chimera.local.private_files import make_outside, make_private

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# A UNIX socket's address holds 104 bytes on macOS and 108 on Linux, with the final zero.
# Source: sys/un.h of both; PostgreSQL adds "/.s.PGSQL.5432.lock" beside it.
_LONGEST_SOCKET_DIR = 103 - len("/.s.PGSQL.5432")
# Characters that are plain in PostgreSQL's list of folders, in a URL's query, and to Airflow, which
# expands $ and ~.
_PLAIN = re.compile(r"[A-Za-z0-9/._-]+")


class _Below:
    """A path below the state folder."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __get__(self, layout: Layout, _: type[Layout]) -> Path:
        return layout.root / self._place


@dataclass(frozen=True)
class Layout:
    """Every file and folder that `make run` and `make up` touch.

    Args:
        root: The state folder, absolute.
    """

    root: Path

    lock = _Below("lock")  # held by the process that runs servers on this state
    stack_file = _Below("stack.json")  # the running stack: see `stackfile.py`
    anchor = _Below("anchor.json")  # the hours that `make run` works on
    logs = _Below("logs")  # one log per server
    task_logs = _Below("logs/tasks")  # Airflow's own tree: one log per attempt of a task
    airflow = _Below("airflow")  # AIRFLOW_HOME
    secrets = _Below("airflow/secrets.json")  # the generated keys
    passwords = _Below("airflow/passwords.json")  # of the UI's users, for SimpleAuthManager
    postgres = _Below("postgres")
    postgres_data = _Below("postgres/data")  # PGDATA
    schema_stamp = _Below("postgres/airflow-schema")  # the Airflow version of the schema
    api_logs = _Below("sources/api_logs")  # the default root of the API's logs
    metrics = _Below("sources/metrics")  # files of the sample application's metrics server
    lake = _Below("lake")  # the default root of the lake
    reports = _Below("reports")  # of `make run`, as JSON
    broker = _Below("broker")  # Redis' settings and queue
    cosmos = _Below("cosmos")  # what Cosmos keeps between tasks
    # Links to the folder of files that can't be below the root while servers run.
    _outside_link = _Below("postgres/outside")

    @classmethod
    def of(cls, state_dir: Path) -> Layout:
        """Return the layout of a state folder that may be relative or contain links."""
        return cls(state_dir.expanduser().resolve())

    @property
    def outside(self) -> Path | None:
        """The folder of files that can't be below the root while servers run; None: no folder."""
        return self._outside_link.readlink() if self._outside_link.is_symlink() else None

    @property
    def has_short_name(self) -> bool:
        """Whether the data folder's path is short enough for PostgreSQL's UNIX socket."""
        return _is_short(self.postgres_data)

    @property
    def socket_dir(self) -> Path:
        """The folder of PostgreSQL's UNIX socket: short enough, and free of special characters.

        Raises:
            ConfigurationError: It is outside the state folder, and no server runs.
        """
        if self.has_short_name:
            return self.postgres_data
        if self.outside is None:
            raise ConfigurationError(
                expected="PostgreSQL running on this state folder",
                came="no socket of it",
                where=str(self.root),
                remedy="`make up` starts it",
            )
        return self.outside / "socket"

    def make_outside(self, is_good: Callable[[Path], bool]) -> Path:
        """Make a new outside folder in a suitable place with a short path, and link to it."""
        self.remove_outside()
        folder = make_outside(
            lambda place: _is_short(place / "chimera-12345678" / "socket") and is_good(place)
        )
        self._outside_link.symlink_to(folder)
        return folder

    def remove_outside(self) -> None:
        """Remove the outside folder; no server may be running."""
        folder = self.outside
        if folder is None:
            return
        # After a restart of the machine, another user may have taken the name.
        if folder.is_dir() and folder.lstat().st_uid == os.geteuid():
            shutil.rmtree(folder, ignore_errors=True)
        self._outside_link.unlink(missing_ok=True)

    def worker(self, number: int) -> Path:
        """Return the state folder of a Celery worker, counted from 1."""
        return self.root / "workers" / str(number)

    def server_log(self, name: str) -> Path:
        """Return the log file of the server called `name`."""
        return self.logs / f"{name}.log"

    def make_folders(self) -> None:
        """Create the folders that must exist before the first server starts."""
        for folder in (self.root, self.logs, self.task_logs, self.airflow, self.postgres):
            make_private(folder)


def _is_short(folder: Path) -> bool:
    text = str(folder)
    return len(text.encode()) <= _LONGEST_SOCKET_DIR and _PLAIN.fullmatch(text) is not None
