"""Keep the sample application alive while `make up` runs: each hour gets its rows ahead of time.

`python -m include.chimera.local.servers.feeder --app-db URI`
"""

from __future__ import annotations

import argparse
import logging
import time
from datetime import UTC, datetime

from include.chimera.demo.application import seed
from include.chimera.errors import ChimeraError
from include.chimera.settings import get_settings
from include.chimera.window import HOUR, Window, floor_hour

logger = logging.getLogger(__name__)
_LOOK_SECONDS = 60.0


def feed(app_db_uri: str) -> None:
    """Make the current hour and the next, again and again, until the process is ended."""
    while True:
        now = floor_hour(datetime.now(UTC))
        try:
            seed(app_db_uri, [Window(now, now + 2 * HOUR)], get_settings())
        except ChimeraError as error:
            logger.warning("could not feed the sample application: %s", error)
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--app-db", required=True)
    feed(parser.parse_args().app_db)
