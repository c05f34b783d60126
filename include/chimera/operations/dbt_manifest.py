"""Build dbt's manifest and partial parse for Airflow, when the dbt project has changed since.

Cosmos reads the manifest when Airflow parses the DAG, and passes the partial parse to each task.
Both are outside the dbt project, in `.airflow-dbt`, because a manual `dbt build` writes into the
project's `target`, and its models would become tasks. The image build and `make` build it ahead of
time; else the DAG processor does when it starts, and a DAG's import where there is none. A new
manifest replaces the old one atomically. The partial parse is reused only if it was made with
Cosmos' own flags.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from include.chimera.errors import ConfigurationError
from include.chimera.paths import AIRFLOW_DBT, DBT_MANIFEST, DBT_PROJECT, PROJECT
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ENGINES = {"duckdb": "prod", "spark": "spark"}
"""The target of the profile, by engine."""
_STAMP = DBT_MANIFEST.with_name("chimera-parse.json")
_LOCK = AIRFLOW_DBT / ".lock"
_PARTIAL_PARSE = "partial_parse.msgpack"
_MADE_BY_DBT = {"target", "logs"}
_SUFFIXES = {".sql", ".yml", ".yaml", ".csv", ".md", ".py"}


def parse_command(folder: Path) -> list[str]:
    """Return the command that builds both in the folder, with the flags that Cosmos uses."""
    place = str(DBT_PROJECT)
    return [
        *(sys.executable, "-m", "dbt.cli.main", "parse", "--no-static-parser"),
        *("--project-dir", place, "--profiles-dir", place, "--profile", "chimera"),
        *("--target", ENGINES[get_settings().engine]),
        *("--target-path", str(folder), "--log-path", str(folder)),
    ]


def is_fresh() -> bool:
    """Was the manifest built from the current files of the dbt project?"""
    try:
        made_of = {**_fingerprint(), "manifest": _digest(DBT_MANIFEST)}
        return bool(json.loads(_STAMP.read_text()) == made_of)
    except (OSError, ValueError):
        return False


def build_manifest() -> bool:
    """Build the manifest if it is not fresh; return whether that was needed.

    One process at a time builds it; the others wait, and find it fresh.

    Raises:
        ConfigurationError: dbt can't parse the project (the message quotes dbt's output), or this
            user may not write the manifest.
    """
    if is_fresh():
        return False
    try:
        DBT_MANIFEST.parent.mkdir(parents=True, exist_ok=True)
        lock = _LOCK.open("wb")
    except OSError as error:
        raise ConfigurationError(
            expected="dbt's manifest, or a folder to build it in",
            came=type(error).__name__,
            where=str(AIRFLOW_DBT),
            remedy="run `make manifest` as a user who may write there (the image build does)",
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_fresh():
            return False
        _build()
    return True


def _build() -> None:
    with tempfile.TemporaryDirectory(prefix="new-", dir=DBT_MANIFEST.parent) as name:
        folder, made_of = Path(name), _fingerprint()  # before dbt reads the project
        partial = DBT_MANIFEST.with_name(_PARTIAL_PARSE)
        if partial.exists():
            shutil.copy(partial, folder)  # it speeds dbt up
        _parse(folder)
        made_of["manifest"] = _digest(folder / DBT_MANIFEST.name)
        (folder / _STAMP.name).write_text(json.dumps(made_of) + "\n")
        for each in (DBT_MANIFEST.name, _PARTIAL_PARSE, _STAMP.name):  # the stamp last
            (folder / each).replace(DBT_MANIFEST.with_name(each))
    _link_parts()


def _parse(folder: Path) -> None:
    inherited = os.environ  # noqa: TID251  # a child inherits the caller's environment
    quiet = {"DO_NOT_TRACK": "1", "DBT_USE_COLORS": "0", "DBT_NO_VERSION_CHECK": "1"}
    done = subprocess.run(  # noqa: S603  # our own command
        parse_command(folder),
        env={**inherited, "PYTHONPATH": str(PROJECT), **quiet},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not (folder / DBT_MANIFEST.name).exists():
        raise ConfigurationError(
            expected="a dbt project that can be parsed",
            came=f"exit code {done.returncode}:\n{done.stdout.strip()}\n{done.stderr}",
            where=str(DBT_PROJECT),
            remedy="correct it and run `make manifest`",
        )


def _link_parts() -> None:
    """Link the project's parts into the folder that Cosmos reads."""
    for link in AIRFLOW_DBT.iterdir():
        if link.is_symlink() and not link.exists():
            link.unlink()
    for path in _parts():
        link = AIRFLOW_DBT / path.name
        if not link.is_symlink():
            link.symlink_to(Path("..") / path.relative_to(PROJECT))


def _fingerprint() -> dict[str, str]:
    sources = hashlib.sha256()
    for path in sorted(_sources()):
        sources.update(str(path.relative_to(DBT_PROJECT)).encode() + b"\0" + path.read_bytes())
    return {
        "dbt": importlib.metadata.version("dbt-core"),
        "adapter": importlib.metadata.version("dbt-duckdb"),
        "engine": get_settings().engine,
        "project": str(DBT_PROJECT),
        "sources": sources.hexdigest(),
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sources() -> Iterator[Path]:
    for part in _parts():
        for path in (part, *part.rglob("*")):
            if path.suffix in _SUFFIXES and path.is_file():
                yield path


def _parts() -> Iterator[Path]:
    for path in DBT_PROJECT.iterdir():
        if path.name not in _MADE_BY_DBT and not path.name.startswith("."):
            yield path
