"""Choose the ports and hours of one start of the servers."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from include.chimera.errors import ConfigurationError
from include.chimera.local.runs.chosen_hours import (
    describe_sample,
    drop_anchor,
    read_anchor,
    set_aside,
)
from include.chimera.local.servers.environment import (
    OWN_FILES,
    ServerPlan,
    own_sources,
    sample_sources,
)
from include.chimera.local.servers.ports import choose_port
from include.chimera.paths import PROJECT
from include.chimera.profiles.chosen import SAMPLE, sources
from include.chimera.window import HOUR, Window, floor_hour

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from include.chimera.local.layout import Layout
    from include.chimera.settings import Settings

_API_PORT = 8080
_METRICS_PORT = 9099
_BROKER_PORT = 6379


def plan_start(
    layout: Layout,
    settings: Settings,
    chimera: Mapping[str, str],
    reparse_seconds: int,
    code: Path = PROJECT,
) -> ServerPlan:
    """Return a plan with free ports, the usual ones if they are free.

    Args:
        layout: The state folder's places.
        settings: How many workers, and tasks at once.
        chimera: CHIMERA_ variables for the DAGs.
        reparse_seconds: Interval at which a DAG file is parsed again.
        code: The folder that holds dags/ and plugins/.

    Raises:
        ConfigurationError: A profile reads files, and nobody says where they are.
    """
    _check_files(settings)
    return ServerPlan(
        layout=layout,
        api_port=choose_port(_API_PORT),
        metrics_port=choose_port(_METRICS_PORT),
        broker_port=choose_port(_BROKER_PORT),
        settings=settings,
        chimera=chimera,
        reparse_seconds=reparse_seconds,
        dags_folder=code / "dags",
        plugins_folder=code / "plugins",
    )


def _check_files(settings: Settings) -> None:
    own = own_sources(os.environ)  # noqa: TID251 - connections are no settings
    for source in OWN_FILES.keys() & sources().keys() - own.keys():
        usual = settings.source_roots[source]
        if not Path(usual).is_dir():
            raise ConfigurationError(
                expected=f"the folder or bucket of the files that {settings.profile} reads",
                came=f"none, and there is no {usual}",
                where=OWN_FILES[source],
                remedy="set it in the environment or in .env; the profile's page says what is read",
            )


def choose_hours(
    layout: Layout, settings: Settings, count: int, say: Callable[[str], None]
) -> Window:
    """Return the hours of `make run`, and prepare the state folder for them.

    Of the caller's own sources alone these are the last full ones.

    Raises:
        TerminalError: There are not that many hours since the anchor.
    """
    now, sample = datetime.now(UTC), describe_sample(settings)
    if settings.profile != SAMPLE:
        sample = f"{settings.profile}, {sample}"
    own, sampled = own_sources(os.environ), sample_sources(os.environ)  # noqa: TID251 - connections are no settings
    if own:
        rest = f", and else {sample}" if sampled else ""
        sample = f"{', '.join(own)} of your own{rest}"
    anchor = read_anchor(layout)
    if anchor and anchor.sample != sample:
        say(f"the state is about {anchor.sample}, now it is {sample}: starting over")
        say(f"the old state is in {set_aside(layout, now)}, delete it when you like")
        anchor = None
    anchor = anchor or drop_anchor(layout, count, sample, now)
    if sampled:
        return anchor.hours(count, now)
    end = floor_hour(now)
    if own.keys() & OWN_FILES.keys():
        say(f"files that were written after {end:%H:%M} UTC come with the next hour")
    return Window(end - count * HOUR, end)


def hour_variables(hours: Window) -> dict[str, str]:
    """Return variables for a schedule of exactly these hours, in order; its end is inclusive."""
    return {
        "CHIMERA_START_DATE": hours.start.isoformat(),
        "CHIMERA_END_DATE": (hours.end - HOUR).isoformat(),
        "CHIMERA_CATCH_UP_RUNS": "0",
    }
