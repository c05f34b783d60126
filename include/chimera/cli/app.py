"""The command line: `./chimera`, which is `python -m include.chimera`.

Commands import what they need when they run, so that the list of commands shows at once.
"""
# ruff: noqa: PLC0415  # commands import what they need, see above

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from include.chimera import __version__
from include.chimera.cli import inspection as inquiry
from include.chimera.cli import previews, repair
from include.chimera.cli.conventions import AsJson, example, print_json, show_error
from include.chimera.cli.gates import add_commands
from include.chimera.errors import CLI, ChimeraError
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from include.chimera.operations.freshness import Freshness

app = typer.Typer(
    help="Chimera: what people do with the pipeline, and its servers on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"chimera {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the release."),
    ] = False,
) -> None:
    del version  # it has ended by now


add_commands(app)
repair.add_commands(app)
inquiry.add_commands(app)
previews.add_commands(app)


@app.command(epilog=example("run --hours 3"))
def run(
    hours: Annotated[int, typer.Option(min=1, help="How many hours of data.")] = 1,
    timeout_minutes: Annotated[
        float, typer.Option(help="Give up after so long; default 30, and 10 more for each hour.")
    ] = 0.0,
    as_json: AsJson = False,
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
        is_good = run_hours(get_settings(), hours, minutes, as_json=as_json)
    raise typer.Exit(0 if is_good else 1)


@app.command(epilog=example("up"))
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


@app.command(epilog=example("down"))
def down() -> None:
    """Stop everything."""
    from include.chimera.cli import servers

    servers.down(get_settings())


@app.command(
    add_help_option=False,
    epilog=example("airflow dags list"),
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def airflow(context: typer.Context) -> None:
    """Airflow's own command line, on the servers that run here: `airflow dags list`."""
    from include.chimera.cli import servers

    servers.airflow(get_settings(), context.args)


@app.command(epilog=example("status --max-age 2h"))
def status(
    max_age: Annotated[
        str,
        typer.Option(
            help="Look at the lake instead, without Airflow: exit code 1 when its newest published "
            "hour ended longer ago, e.g. 2h or 90m."
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show what is running; the exit code is 1 when nothing is."""
    if max_age:
        freshness = _freshness(max_age)
        if as_json:
            print_json(freshness)
        else:
            _show_freshness(freshness)
        raise typer.Exit(0 if freshness.is_fresh else 1)
    from include.chimera.cli import servers

    raise typer.Exit(0 if servers.status(get_settings(), as_json=as_json) else 1)


@app.command(epilog=example("doctor --send-test-message"))
def doctor(
    as_json: AsJson = False,
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

    from include.chimera.local.servers.environment import OWN_FILES, SOURCES
    from include.chimera.paths import PROJECT

    found = dotenv_values(PROJECT / ".env", interpolate=False)
    for name in ("CHIMERA_PROFILE", *SOURCES.values(), *OWN_FILES.values()):
        if text := found.get(name):
            os.environ.setdefault(name, text)  # noqa: TID251 - handed down


def _freshness(max_age: str) -> Freshness:
    from include.chimera.operations.freshness import check_freshness

    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", max_age)
    if not found:
        raise typer.BadParameter("write a whole number and s, m, h or d, as in 2h")  # noqa: EM101, TRY003 - typer shows it
    seconds = int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]
    return check_freshness(timedelta(seconds=seconds), datetime.now(UTC))


def _show_freshness(freshness: Freshness) -> None:
    typer.echo(f"{'fresh' if freshness.is_fresh else 'LATE'}")
    typer.echo(f"published until  {freshness.published_until or 'no hour'}")
    if freshness.age_seconds is not None:
        age = timedelta(seconds=round(freshness.age_seconds))
        typer.echo(f"its age          {age}, of {timedelta(seconds=freshness.max_age_seconds)}")
    for table in freshness.late_tables:
        typer.echo(f"late             {table}")
    if not freshness.is_fresh:
        typer.echo(f"Next: {CLI} gaps; the runbook's page: A table is stale")


@app.command(epilog=example("sample"))
def sample() -> None:
    """Fill the lake's bronze with one hour of the sample application, without Airflow."""
    from include.chimera.local.runs.small_lake import fill_bronze
    from include.chimera.local.supervision.interruption import interruptible

    with interruptible(None):
        fill_bronze(get_settings())


@app.command(epilog=example("sources --airflow http://localhost:8080"))
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


@app.command(epilog=example("suites"))
def suites() -> None:
    """Compile the GX suites from their rules."""
    from include.chimera.quality.rules.suites import write_suites

    typer.echo(f"wrote {len(write_suites())} files")


@app.command(epilog=example("manifest"))
def manifest() -> None:
    """Build dbt's manifest for Cosmos, if the dbt project has changed."""
    from include.chimera.operations.dbt_manifest import build_manifest

    typer.echo("built the manifest" if build_manifest() else "the manifest is up to date")


def main() -> None:
    """Run a command; show our own errors without a stack trace."""
    from include.chimera.local.supervision.interruption import StoppedError

    try:
        app(prog_name=CLI)
    except ChimeraError as error:
        show_error(error)
        raise SystemExit(1) from None
    except StoppedError as stopped:
        typer.echo(str(stopped), err=True)
        raise SystemExit(128 + stopped.number) from None
