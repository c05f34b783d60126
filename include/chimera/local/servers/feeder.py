"""Keep the sample application alive while `make up` runs: each hour gets its rows ahead of time.

`python -m include.chimera.local.servers.feeder --app-db URI`
"""

from __future__ import annotations

import argparse
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from include.chimera.demo.application import seed
from include.chimera.errors import ChimeraError
from include.chimera.settings import get_settings
from include.chimera.window import HOUR, Window, floor_hour

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)
LOOK_SECONDS = 60.0


def feed(app_db_uri: str) -> None:
    """Make the current hour and the next, again and again, until the process is ended."""
    while True:
        tried(lambda: fill(app_db_uri, floor_hour(datetime.now(UTC))))
        time.sleep(LOOK_SECONDS)


def fill(app_db_uri: str, first: datetime) -> None:
    """Make the hours from the first to the next one, unless they exist already."""
    seed(app_db_uri, [Window(first, floor_hour(datetime.now(UTC)) + 2 * HOUR)], get_settings())


def tried(step: Callable[[], None]) -> bool:
    """Take a step; return False, and log why, if it failed by an error of ours."""
    try:
        step()
    except ChimeraError as error:
        logger.warning("tries again: %s", error)
        return False
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--app-db", required=True)
    feed(parser.parse_args().app_db)
