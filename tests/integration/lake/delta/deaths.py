"""Builds that die at a moment: before or after any call that writes or commits."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
from contextlib import contextmanager
from unittest import mock

from include.chimera.lake.dbt_plugin.views import View
from include.chimera.relation import Relation
from include.chimera.settings import get_settings
from tests.integration.lake.conftest import TABLE, Process

STEPS = {
    "write_files": (
        "include.chimera.lake.dbt_plugin.session",
        "include.chimera.lake.dbt_plugin.row_changes",
    ),
    "copy_log": ("include.chimera.lake.delta.commits",),
    "sync_files": ("include.chimera.lake.delta.commits",),
    "_prepare": ("include.chimera.lake.delta.commits",),
    "_write": ("include.chimera.lake.delta.commits",),
    "publish_draft": ("include.chimera.lake.delta.commits",),
    "create_text": ("include.chimera.lake.store.storage",),
    "sync_log": ("include.chimera.lake.delta.commits",),
    "save_view": ("include.chimera.lake.dbt_plugin.session",),
    "drop_view": ("include.chimera.lake.dbt_plugin.session",),
    "drop_table": ("include.chimera.lake.dbt_plugin.session",),
    "delete_files": ("include.chimera.lake.store.storage",),
}


class Died(BaseException):
    """Raised instead of a kill; unlike a kill, it lets clean-up run."""


def die() -> None:
    raise Died


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def dying_at(number: int | None, how=die):
    """Die at the moment `number` (None: never); yield the list of moments that passed."""
    passed: list[str] = []

    def moment(name: str) -> None:
        passed.append(name)
        if len(passed) - 1 == number:
            how()

    def stepping(name, function):
        def step(*arguments, **options):
            moment(f"before {name}")
            result = function(*arguments, **options)
            moment(f"after {name}")
            return result

        return step

    with _patched(stepping):
        yield passed


@contextmanager
def _patched(stepping):
    patches = []
    for name, modules in STEPS.items():
        for module in modules:
            original = getattr(importlib.import_module(module), name)
            patches.append(mock.patch(f"{module}.{name}", stepping(name, original)))
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def run(process: Process, build: dict) -> None:
    """Make a table, or a view, as the dict says."""
    order = dict(build)
    if "view" in order:
        process.session.save_view(Relation.of(TABLE), View(order["view"]))
    else:
        process.build(**order)


def _run_and_die(build: dict, number: int, folder: str) -> None:
    os.environ["CHIMERA_STATE_DIR"] = folder  # noqa: TID251 - a process of its own
    get_settings.cache_clear()
    with dying_at(number, kill):
        run(Process(), build)


def run_killed(build: dict, number: int, folder: str) -> int:
    """Run a build in a process of its own that is killed at a moment; return its exit code."""
    start = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload(["tests.integration.lake.delta.deaths"])
    child = start.Process(target=_run_and_die, args=(build, number, folder))
    child.start()
    child.join(60)
    return child.exitcode
