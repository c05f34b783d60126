"""dbt commands, each in its own process, forked from one that has only imported dbt.

The import takes most of a command's time; what a process knows of the lake, it learns itself.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import dataclass
from pathlib import Path

_START = multiprocessing.get_context("forkserver")
_START.set_forkserver_preload(
    ["dbt.cli.main", "dbt.adapters.duckdb", "include.chimera.lake.dbt_plugin.plugin"]
)


def _run(arguments, folder, environment, log):
    from dbt.cli.main import dbtRunner  # noqa: PLC0415 - not in the tests' own process

    os.environ.clear()  # noqa: TID251 - a process of its own gets an environment of its own
    os.environ.update(environment)  # noqa: TID251 - as above
    os.chdir(folder)
    with Path(log).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        done = dbtRunner().invoke(list(arguments))
        sys.stdout.flush()
    sys.exit(0 if done.success else 1)


@dataclass
class Command:
    """A dbt command that runs or has run."""

    process: multiprocessing.Process
    log: Path

    def wait(self) -> Command:
        self.process.join(120)
        return self

    @property
    def is_done(self) -> bool:
        return self.process.exitcode == 0

    @property
    def output(self) -> str:
        return self.log.read_text()


class Project:
    """A dbt project in a folder, on a lake of its own.

    Args:
        folder: Where it stands.
        environment: Variables of each of its processes.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = {"PATH": os.defpath, "HOME": str(folder), "DBT_USE_COLORS": "0",
                            "CHIMERA_STATE_DIR": str(folder), **environment}  # fmt: skip
        self._count = 0

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def start(self, *arguments: str, **environment: str) -> Command:
        """Start a command with its own artifacts and log, so that two can run at once."""
        self._count += 1
        log = self.folder / f"dbt-{self._count}.out"
        settings = {"DBT_LOG_PATH": str(self.folder / f"logs-{self._count}"),
                    **self.environment, **environment}  # fmt: skip
        process = _START.Process(
            target=_run, args=(arguments, str(self.folder), settings, str(log))
        )
        process.start()
        return Command(process, log)

    def dbt(self, *arguments: str, **environment: str) -> str:
        """Run a command that must succeed; return its output."""
        command = self.start(*arguments, **environment).wait()
        assert command.is_done, command.output
        return command.output

    def fail(self, *arguments: str, **environment: str) -> str:
        """Run a command that must fail; return its output."""
        command = self.start(*arguments, **environment).wait()
        assert command.process.exitcode == 1, command.output
        return command.output
