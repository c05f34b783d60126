"""Whatever a writer does with the files of an hour, each whole line is a row, once.

A state machine over a real lake and over both places where logs may lie: lines are appended (in a
bucket: an object is replaced by a longer one), left half written, rotated, packed, come late in
another hour's file; runs take what is there.
"""

import gzip
import json
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from include.chimera.sources.api_logs.extract import extract_api_logs
from include.chimera.sources.api_logs.log_files import hour_path
from include.chimera.window import HOUR, Run, Window, floor_hour
from tests.integration.ingest.pipeline import letters, publish, rows

pytestmark = pytest.mark.integration
LOGS, LIVE = "bronze.api_logs", "api.jsonl"


class Logging(RuleBasedStateMachine):
    """The state machine; its hour is the current one, whose files may still grow."""

    def __init__(self, logs, configure, folder):
        super().__init__()
        self.logs = logs
        logs.empty()
        lake = folder / str(len(list(folder.iterdir())))
        configure(state_dir=lake)
        lake.mkdir()
        self.window = Window.of_hour(floor_hour(datetime.now(UTC)))
        self.folder = hour_path(self.window.start)
        self.next_folder = hour_path(self.window.start + HOUR)
        self.count, self.runs, self.half, self.files = 0, 0, b"", {LIVE: b""}
        self.late, self.whole = b"", set()

    def line(self):
        self.count += 1
        moment = self.window.start.isoformat()
        return json.dumps({"timestamp": moment, "message": f"{self.count:06}"}).encode()

    def put(self, name):
        self.logs.put(f"{self.folder}/{name}", self.files[name])

    @rule(count=st.integers(1, 3))
    def log(self, count):
        for _ in range(count):
            rest, self.half = self.half, b""
            self.files[LIVE] += (rest or self.line()) + b"\n"
            self.whole.add(f"{self.count:06}")
        self.put(LIVE)

    @precondition(lambda self: not self.half)
    @rule(length=st.integers(1, 40))
    def log_half_a_line(self, length):
        line = self.line()
        self.files[LIVE] += line[:length]
        self.half = line[length:]
        self.put(LIVE)

    @precondition(lambda self: self.files[LIVE] and not self.half)
    @rule()
    def rotate(self):
        name = f"{LIVE}.{len(self.files)}"
        self.logs.rename(f"{self.folder}/{LIVE}", f"{self.folder}/{name}")
        self.files |= {name: self.files[LIVE], LIVE: b""}

    @precondition(lambda self: len(self.files) > 1)
    @rule(is_done=st.booleans(), data=st.data())
    def pack(self, is_done, data):
        """Compress a rotated file; its original is removed, or still there."""
        name = data.draw(st.sampled_from(sorted(set(self.files) - {LIVE})))
        key = f"{self.folder}/{name.removesuffix('.gz')}"
        content = self.files[name]
        self.logs.put(f"{key}.gz", gzip.compress(content))
        if is_done and not name.endswith(".gz"):
            self.logs.delete(key)
            del self.files[name]
            self.files[f"{name}.gz"] = content

    @rule()
    def log_late(self):
        if not self.half:
            self.late += self.line() + b"\n"
            self.whole.add(f"{self.count:06}")
            self.logs.put(f"{self.next_folder}/{LIVE}", self.late)

    @rule()
    def run(self):
        self.runs += 1
        run = Run(f"run {self.runs}", self.window, moves_watermark=False)
        extract_api_logs(self.logs.root, run)
        publish(run, LOGS)
        assert [row[0] for row in rows(LOGS, "message")] == sorted(self.whole)
        assert letters() == []

    def teardown(self):
        self.run()


def test_each_whole_line_is_a_row_once_whatever_its_writer_does(logs, configure, tmp_path):
    folder = tmp_path / "lakes"
    folder.mkdir()
    run_state_machine_as_test(
        lambda: Logging(logs, configure, folder),
        settings=settings(
            max_examples=8,
            stateful_step_count=12,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
