"""Where the embedded servers keep what they keep, below one state folder."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from include.chimera.errors import ConfigurationError

# A UNIX socket's address holds 104 bytes on macOS and 108 on Linux, with the final zero.
# Source: sys/un.h of both; PostgreSQL adds "/.s.PGSQL.5432.lock" beside it.
_LONGEST_SOCKET_DIR = 103 - len("/.s.PGSQL.5432")
# What PostgreSQL's list of folders, a URL's query and Airflow's expansion of $ and ~ leave alone.
_PLAIN = re.compile(r"[A-Za-z0-9/._-]+")


@dataclass(frozen=True)
class Layout:
    """Every file and folder that `make run` and `make up` touch.

    Args:
        root: The state folder, absolute.
    """

    root: Path

    @classmethod
    def of(cls, state_dir: Path) -> Layout:
        """Return the layout of a state folder that may be relative or contain links."""
        return cls(state_dir.expanduser().resolve())

    @property
    def lock(self) -> Path:
        """Held by whoever runs servers on this state."""
        return self.root / "lock"

    @property
    def stack_file(self) -> Path:
        """What runs now: see `stackfile.py`."""
        return self.root / "stack.json"

    @property
    def anchor(self) -> Path:
        """The hours that `make run` works on."""
        return self.root / "anchor.json"

    @property
    def logs(self) -> Path:
        """One log per server, and below `tasks` one per attempt of a task."""
        return self.root / "logs"

    @property
    def task_logs(self) -> Path:
        """Airflow's own log tree."""
        return self.logs / "tasks"

    @property
    def airflow(self) -> Path:
        """AIRFLOW_HOME."""
        return self.root / "airflow"

    @property
    def secrets(self) -> Path:
        """The generated keys, readable by their owner alone."""
        return self.airflow / "secrets.json"

    @property
    def passwords(self) -> Path:
        """The passwords of the UI's users, in the form of Airflow's SimpleAuthManager."""
        return self.airflow / "passwords.json"

    @property
    def postgres(self) -> Path:
        """The folder of the PostgreSQL server."""
        return self.root / "postgres"

    @property
    def postgres_data(self) -> Path:
        """PGDATA."""
        return self.postgres / "data"

    @property
    def schema_stamp(self) -> Path:
        """Names the Airflow version whose schema the metadata database has."""
        return self.postgres / "airflow-schema"

    @property
    def metrics(self) -> Path:
        """What the sample application's metrics server serves."""
        return self.root / "sources" / "metrics"

    @property
    def lake(self) -> Path:
        """The default root of the lake."""
        return self.root / "lake"

    @property
    def reports(self) -> Path:
        """The reports of `make run`, as JSON."""
        return self.root / "reports"

    @property
    def socket_dir(self) -> Path:
        """The folder of PostgreSQL's UNIX socket: short enough, and free of special characters.

        Raises:
            ConfigurationError: Not even the temporary folders have a short, plain name.
        """
        name = f"chimera-{hashlib.sha256(str(self.root).encode()).hexdigest()[:12]}"
        candidates = [
            self.postgres / "socket",
            Path(tempfile.gettempdir()) / name,
            Path("/tmp") / name,  # noqa: S108  # last resort; created with mode 700, owner checked
        ]
        for folder in candidates:
            text = str(folder)
            if len(text.encode()) <= _LONGEST_SOCKET_DIR and _PLAIN.fullmatch(text):
                return folder
        raise ConfigurationError(
            expected=f"a socket folder of at most {_LONGEST_SOCKET_DIR} plain characters",
            came="only longer ones, or ones with special characters",
            where=", ".join(str(folder) for folder in candidates),
            remedy="set TMPDIR to a short folder, such as /tmp",
        )

    def remove_socket_dir(self) -> None:
        """Remove the socket's folder if it stands outside the state folder; no server must run."""
        if not self.socket_dir.is_relative_to(self.root):
            shutil.rmtree(self.socket_dir, ignore_errors=True)

    def server_log(self, name: str) -> Path:
        """Return the log file of the server called `name`."""
        return self.logs / f"{name}.log"

    def make_folders(self) -> None:
        """Create what has to exist before the first server starts."""
        for folder in (self.root, self.logs, self.task_logs, self.airflow, self.postgres):
            folder.mkdir(parents=True, exist_ok=True)
        self.airflow.chmod(0o700)
