"""A real PostgreSQL server from a wheel, run in the foreground as a child of the keeper.

The wheel's own Python wrapper is not used: as root it opens every folder above the project to
everybody and adds a user to the system, and its server outlives whoever started it.

Its socket stands in its data folder, which its owner alone can enter, and whoever connects is asked
of the kernel (`peer`): the user who started it, nobody else. Where that is root, the server runs as
`account.py` says.
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
    "log_min_messages": "log",  # above errors of statements, which repeat rows and parameters
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
        """Make what can't stand below the state folder; return the folder of the programs."""
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
        """Create the cluster beside its place and move it there, so that none is ever half made.

        initdb wants a user with a name. Where we are root that is `nobody`, for half a second: what
        else runs as `nobody` can't enter, as the folder lies below one that is root's alone.
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
        """Write who may connect, at each start: an older cluster may still let in anybody."""
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
        """Pause a DAG before the scheduler starts, so that it begins nothing on its own.

        A run that a crash interrupted would otherwise go on while its tasks are being cleared.
        """
        with psycopg.connect(self.uri(AIRFLOW_DATABASE)) as connection:
            connection.execute("update dag set is_paused = true where dag_id = %s", [dag_id])
