"""Production as a preview finds it, and a copy of the project that changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from include.chimera.contracts import PARTITION, PUBLISHED_VERSIONS
from include.chimera.lake.delta.scans import ask
from include.chimera.lake.delta.tables import open_table, table_names
from include.chimera.lake.ops_tables.appends import append_rows
from include.chimera.lake.ops_tables.consistent_snapshots import PINNED_LAYERS, _row
from include.chimera.paths import PROJECT
from include.chimera.relation import Relation
from include.chimera.window import Run, Window, parse_hour
from tests.integration.dbt.small_bronze import publish
from tests.integration.object_store import forget_settings
from tests.integration.quality.hours import bronze_tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from include.chimera.demo.feed import Feed

# Root is bound to a folder's permissions as anybody is.
_BOUND = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override"]
BOUND = _BOUND if os.geteuid() == 0 else []


@dataclass
class Change:
    """A copy of the project in which something changes, and the lake that it must not touch."""

    root: Path
    environment: dict[str, str]

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text in a file of the dbt project."""
        file = self.root / "include" / "dbt" / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def preview(self, *options: str, code: int = 0) -> dict:
        """Run the command; return its JSON."""
        done = subprocess.run(  # noqa: S603 - our own command line
            [*BOUND, sys.executable, "-m", "include.chimera", "preview", "--json", *options],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        found: dict = json.loads(done.stdout)
        found["tables"] = {table["table"]: table for table in found["tables"]}
        return found


def build_all(environment: dict[str, str], root: Path = PROJECT) -> None:
    """Build and publish all models of what bronze holds, as one run does."""
    project = root / "include" / "dbt"
    subprocess.run(  # noqa: S603 - our own command line
        [
            *(sys.executable, "-m", "dbt.cli.main", "build", "--quiet", "--target", "prod"),
            *("--exclude", "resource_type:unit_test", "resource_type:exposure"),
            *("--target-path", environment["CHIMERA_STATE_DIR"]),
        ],
        cwd=project,
        env={**environment, "PYTHONPATH": str(root)},
        check=True,
    )
    run = Run("the last run", newest_window())
    made = [name for name in table_names() if Relation.parse(name).schema in PINNED_LAYERS]
    now = datetime.now(UTC)
    rows = [_row(run, name, open_table(name).version(), now) for name in made]
    append_rows(PUBLISHED_VERSIONS, rows, run)


def newest_window() -> Window:
    """Return the newest hour of what the models were built of."""
    ((label,),) = ask("silver.stg_app__generations", f"select max({PARTITION}) from ({{}})")
    return Window.of_hour(parse_hour(label))


def start(folder: Path, **variables: str) -> dict[str, str]:
    """Return the environment of processes on a state of their own."""
    state = {"CHIMERA_STATE_DIR": str(folder), "HOME": str(folder), "PATH": os.environ["PATH"]}  # noqa: TID251 - git's
    return {**state, "DO_NOT_TRACK": "1", **variables}


def git(folder: Path, *words: str) -> None:
    """Run git as nobody in particular."""
    who = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True)  # noqa: S603, S607 - ours


def change_in(root: Path, environment: dict[str, str]) -> Change:
    """Return a copy of the project whose git reference HEAD is what production runs."""
    leave = shutil.ignore_patterns("target", "__pycache__")
    shutil.copytree(PROJECT / "include", root / "include", ignore=leave)
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "what production runs")
    return Change(root, environment)


@contextmanager
def here(state: Path, **variables: str) -> Iterator[None]:
    """Let this process work on a state folder."""
    with pytest.MonkeyPatch.context() as patch:
        for name, text in {"CHIMERA_STATE_DIR": str(state), **variables}.items():
            patch.setenv(name, text)
        forget_settings()
        yield
    forget_settings()


def publish_feed(feed: Feed, hours: Sequence[Window]) -> None:
    """Publish hours of the sample application's bronze."""
    for hour in hours:
        for table, rows in bronze_tables(feed, hour).items():
            publish(f"run {hour}", table, rows.to_pylist())
