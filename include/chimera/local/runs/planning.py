"""Choose the ports and hours of one start of the servers."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from include.chimera.local.runs.chosen_hours import (
    describe_sample,
    drop_anchor,
    read_anchor,
    set_aside,
)
from include.chimera.local.servers.environment import ServerPlan, own_sources
from include.chimera.local.servers.ports import choose_port
from include.chimera.paths import PROJECT
from include.chimera.profiles.chosen import SAMPLE
from include.chimera.window import HOUR, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

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
    """
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


def choose_hours(
    layout: Layout, settings: Settings, count: int, say: Callable[[str], None]
) -> Window:
    """Return the hours of `make run`, and prepare the state folder for them.

    Raises:
        TerminalError: There are not that many hours since the anchor.
    """
    now, sample = datetime.now(UTC), describe_sample(settings)
    if settings.profile != SAMPLE:
        sample = f"{settings.profile}, {sample}"
    if own := own_sources(os.environ):  # noqa: TID251 - connections are no settings
        sample = f"{', '.join(own)} of your own, and else {sample}"
    anchor = read_anchor(layout)
    if anchor and anchor.sample != sample:
        say(f"the state is about {anchor.sample}, now it is {sample}: starting over")
        say(f"the old state is in {set_aside(layout, now)}, delete it when you like")
        anchor = None
    return (anchor or drop_anchor(layout, count, sample, now)).hours(count, now)


def hour_variables(hours: Window) -> dict[str, str]:
    """Return variables for a schedule of exactly these hours, in order; its end is inclusive."""
    return {
        "CHIMERA_START_DATE": hours.start.isoformat(),
        "CHIMERA_END_DATE": (hours.end - HOUR).isoformat(),
        "CHIMERA_CATCH_UP_RUNS": "0",
    }
