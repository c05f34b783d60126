"""What a scheduler holds before it forks its first task."""

import json
import subprocess
import sys

import pytest

from include.chimera.paths import PROJECT

pytestmark = pytest.mark.integration

START = """
import gc, json, logging, sys, threading
sys.argv = ["airflow", "scheduler"]
logging.basicConfig(level="WARNING", stream=sys.stderr)
from plugins.warm_start import PARSING, WORKING, WarmStart
WarmStart().on_starting(None)
from include.chimera.lake.engine import check_signatures
from dbt_common.clients.jinja import template_cache
print(json.dumps({
    "missing": [name for name in PARSING + WORKING if name not in sys.modules],
    "macros": len(template_cache.file_cache),
    "threads": [each.name for each in threading.enumerate() if each is not threading.main_thread()],
    "signatures": check_signatures.cache_info().currsize,
    "frozen": gc.get_freeze_count() > 0,
}))
"""


def test_a_scheduler_holds_all_that_tasks_need_and_starts_no_thread():
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", START], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["missing"] == told["threads"] == []
    assert told["macros"] > 500
    assert told["signatures"] == 1
    assert told["frozen"]
    assert "could not" not in done.stderr
