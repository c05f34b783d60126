"""The command line: `python -m include.chimera`.

Commands import what they need when they run, so that the list of commands shows at once.
"""
# ruff: noqa: PLC0415  # commands import what they need, see above

from __future__ import annotations

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path  # noqa: TC003  # typer reads the annotations at run time
from typing import Annotated

import typer

from include.chimera.cli import inspection as inquiry
from include.chimera.cli import repair
from include.chimera.cli.gates import add_commands
from include.chimera.errors import ChimeraError
from include.chimera.observe.terminal import echo
from include.chimera.settings import get_settings

app = typer.Typer(
    help="Chimera's embedded default: the pipeline with all its servers on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
add_commands(app)
repair.add_commands(app)
inquiry.add_commands(app)


@app.command()
def run(
    hours: Annotated[int, typer.Option(min=1, help="How many hours of data.")] = 1,
    timeout_minutes: Annotated[
        float, typer.Option(help="Give up after so long; default 30, and 10 more for each hour.")
    ] = 0.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the report here, as JSON, as well.")
    ] = None,
    owner: Annotated[
        int | None, typer.Option(hidden=True, help="Stop when this process ends.")
    ] = None,
) -> None:
    """Start everything, run the pipeline for some hours, report, stop everything."""
    from include.chimera.local.runs.run import run as run_hours
    from include.chimera.local.supervision.interruption import interruptible

    _take_sources_of_env_file()
    minutes = timeout_minutes or 30.0 + 10.0 * hours
    with interruptible(owner):
        is_good = run_hours(get_settings(), hours, minutes, json_file)
    raise typer.Exit(0 if is_good else 1)


@app.command()
def up(
    owner: Annotated[
        int | None, typer.Option(hidden=True, help="Give up when this process ends.")
    ] = None,
) -> None:
    """Start everything and leave it running, with the UI."""
    from include.chimera.cli import servers
    from include.chimera.local.supervision.interruption import interruptible

    _take_sources_of_env_file()
    with interruptible(owner):
        servers.up(get_settings())


@app.command()
def down() -> None:
    """Stop everything."""
    from include.chimera.cli import servers

    servers.down(get_settings())


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def airflow(context: typer.Context) -> None:
    """Airflow's own command line, on the servers that run here: `airflow dags list`."""
    from include.chimera.cli import servers

    servers.airflow(get_settings(), context.args)


@app.command()
def status(
    max_age: Annotated[
        str,
        typer.Option(
            help="Look at the lake instead, without Airflow: exit code 1 when its newest published "
            "hour ended longer ago, e.g. 2h or 90m; prints JSON."
        ),
    ] = "",
) -> None:
    """Show what is running; the exit code is 1 when nothing is."""
    if max_age:
        raise typer.Exit(0 if _is_fresh(max_age) else 1)
    from include.chimera.cli import servers

    raise typer.Exit(0 if servers.status(get_settings()) else 1)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each check.")] = False,
    send_test_message: Annotated[
        bool, typer.Option(help="Send a test message to each channel that is set up.")
    ] = False,
) -> None:
    """Try all that an hour needs, and say what mends it; exit code 1: something is missing."""
    from include.chimera.cli import servers

    is_well = servers.doctor(get_settings(), as_json=as_json, send=send_test_message)
    raise typer.Exit(0 if is_well else 1)


def _take_sources_of_env_file() -> None:
    """Take profiles and sources that the project's `.env` names, unless the environment does."""
    import os

    from dotenv import dotenv_values

    from include.chimera.local.servers.environment import SOURCES
    from include.chimera.paths import PROJECT

    found = dotenv_values(PROJECT / ".env", interpolate=False)
    files = ("CHIMERA_EVALUATIONS_ROOT", "CHIMERA_SPANS_ROOT", "CHIMERA_RECORDS_ROOT")
    for name in ("CHIMERA_PROFILE", *SOURCES.values(), *files):
        if text := found.get(name):
            os.environ.setdefault(name, text)  # noqa: TID251 - handed down


def _is_fresh(max_age: str) -> bool:
    from include.chimera.operations.freshness import check_freshness

    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", max_age)
    if not found:
        raise typer.BadParameter("write a whole number and s, m, h or d, as in 2h")  # noqa: EM101, TRY003 - typer shows it
    seconds = int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]
    freshness = check_freshness(timedelta(seconds=seconds), datetime.now(UTC))
    typer.echo(json.dumps(asdict(freshness)))
    return freshness.is_fresh


@app.command()
def sample() -> None:
    """Fill the lake's bronze with one hour of the sample application, without Airflow."""
    from include.chimera.local.runs.small_lake import fill_bronze
    from include.chimera.local.supervision.interruption import interruptible

    with interruptible(None):
        fill_bronze(get_settings())


@app.command()
def sources(
    airflow: Annotated[
        str, typer.Option(help="Airflow's address, to begin the schedule when the data is there.")
    ] = "http://localhost:8080",
    owner: Annotated[
        int | None, typer.Option(hidden=True, help="Stop when this process ends.")
    ] = None,
) -> None:
    """Run the sample application alone, for `astro dev start --standalone`."""
    from include.chimera.cli.sources import sources as serve
    from include.chimera.local.supervision.interruption import interruptible

    with interruptible(owner):
        serve(get_settings(), airflow)


@app.command()
def suites() -> None:
    """Compile the GX suites from their rules."""
    from include.chimera.quality.rules.suites import write_suites

    typer.echo(f"wrote {len(write_suites())} files")


@app.command()
def manifest() -> None:
    """Build dbt's manifest for Cosmos, if the dbt project has changed."""
    from include.chimera.operations.dbt_manifest import build_manifest

    typer.echo("built the manifest" if build_manifest() else "the manifest is up to date")


def main() -> None:
    """Run a command; show our own errors without a stack trace."""
    from include.chimera.local.supervision.interruption import StoppedError

    try:
        app()
    except ChimeraError as error:
        for name, text in (
            ("error", type(error).__name__.removesuffix("Error")),
            ("expected", error.expected),
            ("came", error.came),
            ("where", error.where),
            ("next", error.remedy),
        ):
            echo(f"{name:<9} {text}", err=True)
        raise SystemExit(1) from None
    except StoppedError as stopped:
        typer.echo(str(stopped), err=True)
        raise SystemExit(128 + stopped.number) from None
