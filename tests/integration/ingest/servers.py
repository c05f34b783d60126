"""Real servers that a test may stop, kill and start again."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from adbc_driver_postgresql import dbapi
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from include.chimera.local.private_files import is_open_to_all
from include.chimera.local.servers.account import binaries, copy_binaries
from include.chimera.local.servers.ports import choose_port

_OPTIONS = {
    "fsync": "off",
    "listen_addresses": "",
    "max_prepared_transactions": "4",
    "shared_buffers": "32MB",
    "timezone": "UTC",
}


def _identity():
    """Return who runs a server: PostgreSQL and PgBouncer refuse to be root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _folder(prefix):
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))  # short: a socket path is bounded
    identity = _identity()
    if identity:
        os.chown(folder, identity["user"], identity["group"])
    return folder


def _until_it_answers(ask):
    Retrying(
        retry=retry_if_exception_type(dbapi.Error),
        stop=stop_after_delay(30),
        wait=wait_fixed(0.05),
        reraise=True,
    )(ask)


def tls_programs():
    """Return the folder of Debian's PostgreSQL; None: there is none. The wheel's knows no TLS."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


needs_tls = pytest.mark.skipif(
    tls_programs() is None,
    reason="no PostgreSQL with TLS (Debian: apt-get install postgresql)",
)


class PostgresServer:
    """The wheel's PostgreSQL, or another one, in its own folder, over a UNIX socket."""

    def __init__(self, programs=None):
        self.folder = _folder("chimera-pg-")
        self._data = self.folder / "data"
        is_reachable = not _identity() or is_open_to_all(binaries() / "postgres")
        own = binaries() if is_reachable else copy_binaries(self.folder)
        self._programs = programs or own
        arguments = ["-D", str(self._data), "-U", "postgres", "--auth=trust", "--no-sync"]
        subprocess.run(  # noqa: S603 - fixed arguments
            [str(self._programs / "initdb"), *arguments, "--no-instructions", "--encoding=UTF8"],
            cwd=self.folder,
            check=True,
            capture_output=True,
            **_identity(),
        )
        self._process, self._port = None, 5432  # part of the socket's name

    def uri(self, user="postgres"):
        return f"postgresql://{user}@/postgres?host={self.folder}&port={self._port}"

    def admit(self, *lines):
        """Write who may log in, beside the superuser over the socket."""
        (self._data / "pg_hba.conf").write_text("\n".join(["local all all trust", *lines, ""]))

    def keep(self, file):
        """Copy a file to where only the server may read it; return its name there."""
        kept = shutil.copy(file, self.folder)
        if identity := _identity():
            os.chown(kept, identity["user"], identity["group"])
        return kept

    def start(self, **more):
        settings = {**_OPTIONS, "unix_socket_directories": str(self.folder), **more}
        self._port = settings.get("port", self._port)
        options = [part for pair in settings.items() for part in ("-c", "=".join(pair))]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - fixed arguments
                [str(self._programs / "postgres"), "-D", str(self._data), *options],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                **_identity(),
            )
        _until_it_answers(lambda: self.execute("select 1"))

    def stop(self, how=signal.SIGQUIT):
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=30)
            self._process = None

    def remove(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self, **arguments):
        return dbapi.connect(self.uri(), **arguments)

    def execute(self, *statements):
        """Run statements one by one, each in its own transaction."""
        with self.connect(autocommit=True) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def query(self, sql):
        with self.connect(autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()


class PgBouncer:
    """Debian's PgBouncer in front of a server, in transaction mode, with one server connection."""

    def __init__(self, server):
        self.folder = _folder("chimera-pgb-")
        self._port = choose_port(0)
        (self.folder / "users").write_text('"postgres" ""\n')
        (self.folder / "ini").write_text(
            f"[databases]\npostgres = host={server.folder} dbname=postgres user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self._port}\n"
            f"unix_socket_dir =\nauth_type = any\nauth_file = {self.folder}/users\n"
            "pool_mode = transaction\ndefault_pool_size = 2\n"
        )
        for path in self.folder.iterdir():
            path.chmod(0o644)

    def uri(self):
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    def start(self):
        self._process = subprocess.Popen(  # noqa: S603 - fixed arguments
            [shutil.which("pgbouncer"), "-q", str(self.folder / "ini")],
            stderr=subprocess.DEVNULL,
            **_identity(),
        )
        _until_it_answers(lambda: dbapi.connect(self.uri()).close())

    def remove(self):
        self._process.kill()
        self._process.wait(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)
