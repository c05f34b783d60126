"""The sample application as the stack starts it."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from typing import TYPE_CHECKING

import pyarrow as pa

from include.chimera.demo.application import seed
from include.chimera.local.servers.stack import SampleApplication

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.chimera.local.servers.environment import ServerPlan
    from include.chimera.settings import Settings
    from include.chimera.window import Window


def demo_sample(
    settings: Settings, windows: list[Window], plan: ServerPlan, say: Callable[[str], None]
) -> SampleApplication:
    """Return the sample application with the given hours."""
    settings = settings.model_copy(update={"api_logs_root": ""})  # not among the caller's logs

    def fill(app_db_uri: str) -> None:
        say("filling the sample application")
        made = seed(app_db_uri, windows, settings, say)
        _give_memory_back()
        rows = ", ".join(f"{count:,} {table}" for table, count in made.rows.items())
        say(f"it holds {rows}, {made.log_lines:,} log lines, {made.metric_samples:,} samples")

    folder, port = str(plan.layout.metrics), str(plan.metrics_port)
    module = "include.chimera.demo.metrics_server"
    return SampleApplication(fill, ["-m", module, "--folder", folder, "--port", port])


def _give_memory_back() -> None:
    """Free the memory used for making rows, because this process watches the servers for hours.

    At three million generations per hour, 1.4 GB stayed: in a reference cycle, Arrow's pool, glibc.
    """
    gc.collect()
    pa.default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
