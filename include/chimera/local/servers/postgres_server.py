"""A real PostgreSQL server from a wheel, run in the foreground as a child of the keeper.

The wheel's own Python wrapper is not used: as root, it opens all parent folders of the project to
everybody and adds a user to the system, and its server outlives the process that started it.

The socket is in the data folder, which only its owner can enter. Peer authentication, by the
kernel, lets in only the user who started the server. If that is root, the server runs as the user
that `account.py` chooses.
"""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from include.chimera.local.private_files import allows_programs, is_open_to_all, write_private
from include.chimera.local.servers import account
from include.chimera.local.supervision.keeper import Program
from include.chimera.local.supervision.processes import wait_until
from include.chimera.local.supervision.supervisor import KeeperLine, ServerDiedError

if TYPE_CHECKING:
    from pathlib import Path

    from include.chimera.local.layout import Layout

SUPERUSER = "postgres"
APP_DATABASE = "app"
AIRFLOW_DATABASE = "airflow"
_START_SECONDS = 60.0
# A small server: a few hundred MB of data, a few dozen connections. Commits reach the disk up to
# 0.6 s late (wal_writer_delay x 3) but in order, so a power cut loses the last moments and corrupts
# nothing. Shared memory stays in the data folder, so that nothing is left behind in /dev/shm.
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
    "log_min_messages": "log",  # no errors of statements, which quote rows and parameters
    "log_checkpoints": "off",
}
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


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
        uid = account.choose(self.layout)
        programs = self._make_outside(uid)
        if not (self.layout.postgres_data / "PG_VERSION").exists():
            self._initialize(line, programs, uid)
        data = self.layout.postgres_data
        account.hand_over(data, uid)
        self._let_in_ourselves(uid)
        sockets = self.layout.socket_dir
        if sockets != data:
            sockets.mkdir(mode=0o700)
            account.hand_over(sockets, uid)
        for left in (data / "postmaster.pid", sockets / ".s.PGSQL.5432.lock"):
            left.unlink(missing_ok=True)
        place = "." if sockets == data else str(sockets)
        settings = {**_OPTIONS, "unix_socket_directories": place}
        line.start(
            Program(
                "postgres",
                [
                    str(programs / "postgres"),
                    *("-D", account.seen_from_inside(data, uid)),
                    *(part for pair in settings.items() for part in ("-c", "=".join(pair))),
                ],
                _ENVIRONMENT,
                stop_signal=signal.SIGINT,
                last=True,
                launch_options=account.launch_options(uid),
                cwd=data,
            )
        )
        if not wait_until(lambda: self._answers(line), _START_SECONDS):
            raise ServerDiedError(
                expected=f"PostgreSQL to answer within {_START_SECONDS:.0f} s",
                came="no connection",
                where=str(self.layout.server_log("postgres")),
            )
        self._create_databases()

    def _make_outside(self, uid: int | None) -> Path:
        """Make the folders that can't be below the state folder; return that of the programs."""
        programs = account.binaries()
        must_copy = uid is not None and not is_open_to_all(programs / "postgres")
        self.layout.remove_outside()
        if self.layout.has_short_name and not must_copy:
            return programs
        outside = self.layout.make_outside(lambda place: uid is None or allows_programs(place))
        if uid is not None:
            outside.chmod(0o711)
        return account.copy_binaries(outside) if must_copy else programs

    def _initialize(self, line: KeeperLine, programs: Path, uid: int | None) -> None:
        """Create the cluster in a temporary folder and move it, so that none is ever incomplete.

        initdb needs a user with a name. If we are root, that is `nobody`, for half a second. Other
        processes of `nobody` can't enter the folder, because its parent is private to root.
        """
        fresh = self.layout.postgres / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        maker = None if uid is None else account.nobody()
        account.hand_over(fresh, maker)
        arguments = ["-D", account.seen_from_inside(fresh, uid), "-U", SUPERUSER]
        arguments += ["--auth-local=peer", "--auth-host=reject", "--encoding=UTF8"]
        arguments += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        arguments += ["--no-instructions", "--no-sync"]
        program = [str(programs / "initdb"), *arguments]
        options = account.launch_options(maker, shielded=True)
        line.finish(
            Program("initdb", program, _ENVIRONMENT, launch_options=options, cwd=fresh), 120
        )
        account.hand_over(fresh, uid)
        self.layout.schema_stamp.unlink(missing_ok=True)
        fresh.rename(self.layout.postgres_data)

    def _let_in_ourselves(self, uid: int | None) -> None:
        """Write who may connect, at each start: an older cluster may still admit anybody."""
        name = account.our_name()
        for file, text in (
            ("pg_hba.conf", "local all all peer map=chimera\n"),
            ("pg_ident.conf", f'chimera "{name}" all\n'),  # the superuser may become any role
        ):
            path = self.layout.postgres_data / file
            write_private(path, text)
            account.hand_over(path, uid)

    def _answers(self, line: KeeperLine) -> bool:
        line.check()
        try:
            psycopg.connect(self.uri("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _create_databases(self) -> None:
        with psycopg.connect(self.uri("postgres"), autocommit=True) as connection:
            rows = connection.execute("select datname from pg_database").fetchall()
            for name in {APP_DATABASE, AIRFLOW_DATABASE} - {row[0] for row in rows}:
                connection.execute(f'create database "{name}"'.encode())

    def pause_dag(self, dag_id: str) -> None:
        """Pause a DAG before the scheduler starts, so that no run starts on its own.

        Otherwise a run that a crash interrupted would continue while its tasks are being cleared.
        """
        with psycopg.connect(self.uri(AIRFLOW_DATABASE)) as connection:
            connection.execute("update dag set is_paused = true where dag_id = %s", [dag_id])
