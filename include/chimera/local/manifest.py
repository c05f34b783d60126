"""Build dbt's manifest and partial parse, when the dbt project has changed since.

Cosmos reads the manifest when Airflow parses the DAG, and hands the partial parse to each task. It
is reused only if it was made with Cosmos' own flags; a `dbt build` by hand writes both anew with
other ones, so the manifest's own content counts as well as its sources.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from include.chimera.errors import ConfigurationError
from include.chimera.paths import DBT_MANIFEST, DBT_PROJECT, PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_STAMP = DBT_MANIFEST.with_name("chimera-parse.json")
_MADE_BY_DBT = {"target", "logs", "dbt_packages"}
_SUFFIXES = {".sql", ".yml", ".yaml", ".csv", ".md", ".py"}


def parse_command() -> list[str]:
    """Return the command that builds both, with the flags that Cosmos uses."""
    place = str(DBT_PROJECT)
    return [
        *(sys.executable, "-m", "dbt.cli.main", "parse", "--no-static-parser"),
        *("--project-dir", place, "--profiles-dir", place, "--profile", "chimera"),
        *("--target", "prod"),
    ]


def parse_environment() -> dict[str, str]:
    """Return the environment of that command."""
    inherited = os.environ  # noqa: TID251  # a child inherits the caller's environment
    return {
        **inherited,
        "PYTHONPATH": str(PROJECT),
        "DO_NOT_TRACK": "1",
        "DBT_USE_COLORS": "0",
        "DBT_NO_VERSION_CHECK": "1",
    }


def is_fresh() -> bool:
    """Tell whether the manifest is what the dbt project's files make today."""
    try:
        return bool(json.loads(_STAMP.read_text()) == _fingerprint())
    except (OSError, ValueError):
        return False


def stamp() -> None:
    """Record what the manifest was made of; called right after it was made.

    Raises:
        ConfigurationError: There is no manifest.
    """
    if not DBT_MANIFEST.exists():
        raise ConfigurationError(
            expected="dbt's manifest",
            came="nothing",
            where=str(DBT_MANIFEST),
            remedy="run `make manifest`",
        )
    _STAMP.write_text(json.dumps(_fingerprint()) + "\n")


def build_manifest() -> bool:
    """Build the manifest if it is not fresh; return whether that was needed.

    Raises:
        ConfigurationError: dbt can't parse the project; what it says is part of the message.
    """
    if is_fresh():
        return False
    done = subprocess.run(  # noqa: S603  # our own command
        parse_command(), env=parse_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ConfigurationError(
            expected="a dbt project that can be parsed",
            came=f"exit code {done.returncode}:\n{done.stdout.strip()}\n{done.stderr.strip()}\n",
            where=str(DBT_PROJECT),
            remedy="correct it and run `make manifest`",
        )
    stamp()
    return True


def _fingerprint() -> dict[str, str]:
    sources = hashlib.sha256()
    for path in sorted(_sources()):
        sources.update(str(path.relative_to(DBT_PROJECT)).encode() + b"\0" + path.read_bytes())
    return {
        "dbt": importlib.metadata.version("dbt-core"),
        "adapter": importlib.metadata.version("dbt-duckdb"),
        "project": str(DBT_PROJECT),
        "sources": sources.hexdigest(),
        "manifest": hashlib.sha256(DBT_MANIFEST.read_bytes()).hexdigest(),
    }


def _sources() -> Iterator[Path]:
    for path in DBT_PROJECT.rglob("*"):
        inside = path.relative_to(DBT_PROJECT).parts
        if path.suffix in _SUFFIXES and inside[0] not in _MADE_BY_DBT and path.is_file():
            yield path
