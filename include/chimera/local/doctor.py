"""Check promises that depend on libraries against the installed versions and running servers.

Tests prove them only for the versions and the time of the test.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from include.chimera.errors import ChimeraError
from include.chimera.local.layout import Layout
from include.chimera.local.servers.airflow_api import AirflowApi
from include.chimera.local.servers.environment import keep_passwords
from include.chimera.local.servers.stack import DAG_ID
from include.chimera.local.supervision.stackfile import read_stack
from include.chimera.observe.findings import Finding
from include.chimera.paths import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.settings import Settings

_PIN = re.compile(r"^([\w.-]+)(?:\[[\w,]+\])?==([\w.]+)", re.MULTILINE)


def examine(settings: Settings) -> Iterator[Finding]:
    """Check the packages and, if servers run on the state folder, the deadlines of their runs."""
    layout = Layout.of(settings.state_dir)
    running = read_stack(layout)
    if not running or not running.is_alive:
        yield check_versions("requirements.txt")
        return
    yield check_versions("requirements.txt", "requirements-dev.txt")
    api = AirflowApi(running.url, "admin", keep_passwords(layout)["admin"])
    try:
        yield check_next_run(api)
        yield check_runs(api)
    except ChimeraError as error:
        yield Finding("deadline", is_kept=False, text=f"unknown: {error}")
    finally:
        api.close()


def check_versions(*files: str) -> Finding:
    """Compare the installed versions with the pins; docs/versions.md gives each pin's reason."""
    texts = [(PROJECT / name).read_text() for name in files]
    pins = dict(_PIN.findall("\n".join(texts)))
    other = {name: found for name, pin in pins.items() if (found := _installed(name)) != pin}
    if other:
        names = ", ".join(f"{name} {found}, not {pins[name]}" for name, found in other.items())
        return Finding("versions", is_kept=False, text=f"{names}: see docs/versions.md")
    return Finding("versions", is_kept=True, text=f"all {len(pins)} pins are what is installed")


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "is missing"


def check_next_run(api: AirflowApi) -> Finding:
    """Check that Airflow has a deadline for the DAG version of the next run."""
    found = api.next_deadlines(DAG_ID)
    if found is None:
        return Finding("deadline", is_kept=False, text=f"unknown: Airflow has not read {DAG_ID}")
    if not found:
        text = (
            f"NONE for the next run of {DAG_ID}: nobody will be told that it is late; "
            "see the runbook, A run has no deadline"
        )
        return Finding("deadline", is_kept=False, text=text)
    return Finding("deadline", is_kept=True, text=f"the next run is late after {found[0]:g} s")


def check_runs(api: AirflowApi) -> Finding:
    """Check that all unfinished runs have their deadline."""
    runs = [run.run_id for run in api.runs(DAG_ID) if not run.is_over]
    without = [run_id for run_id in runs if not api.has_deadline(DAG_ID, run_id)]
    if without:
        text = f"NONE for {', '.join(without)}: nobody will be told that it is late"
        return Finding("runs", is_kept=False, text=text)
    return Finding("runs", is_kept=True, text=f"{len(runs)} not over, each has its deadline")
