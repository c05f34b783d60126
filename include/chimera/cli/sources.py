"""The command `sources`: the sample application alone, for an Airflow that somebody else starts."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from include.chimera.local.layout import Layout
from include.chimera.local.private_files import write_private
from include.chimera.local.runs.planning import plan_start
from include.chimera.local.runs.progress import Progress
from include.chimera.local.servers.environment import SOURCES, build_environment, keep_secrets
from include.chimera.local.servers.stack import Stack
from include.chimera.local.supervision.keeper import Program
from include.chimera.local.supervision.supervisor import StateLock
from include.chimera.observe.terminal import make_console
from include.chimera.paths import PROJECT

if TYPE_CHECKING:
    from include.chimera.settings import Settings

_MODULE = "include.chimera.local.sample_service"


def sources(settings: Settings, airflow_url: str) -> None:
    """Serve the sample application until interrupted, and write the variables that lead to it.

    Args:
        settings: The settings, for the state folder.
        airflow_url: Address of the Airflow whose schedule may begin when the data is there.
    """
    layout = Layout.of(settings.state_dir)
    lock = StateLock(layout)
    plan = plan_start(layout, settings, {}, reparse_seconds=30)
    inherited = {name: text for name, text in os.environ.items() if name not in SOURCES.values()}  # noqa: TID251 - a child inherits
    with Progress(make_console()) as progress, Stack(plan, lock, progress.say) as stack:
        stack.start_database()
        env = build_environment(plan, keep_secrets(layout), inherited)
        argv = [sys.executable, "-m", _MODULE, "--app-db", stack.app_db_uri]
        argv += ["--airflow", airflow_url, "--port", str(plan.metrics_port)]
        stack.line.start(Program("sample-application", argv, env))
        example = (PROJECT / ".env.example").read_text()
        lines = [f"{name}={env[name]}" for name in SOURCES.values() if name in env]
        write_private(layout.root / "astro.env", "\n".join([example, *lines, ""]))
        progress.say(f"serving; its log is {layout.server_log('sample-application')}")
        progress.say(f"now: astro dev start --standalone --env {layout.root / 'astro.env'}")
        while True:
            stack.line.check()
            time.sleep(1)
