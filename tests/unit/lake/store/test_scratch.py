"""A process's temporary folders are removed after its end, those of others are not."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from include.chimera.lake.store.scratch import scratch, sweep_scratch
from include.chimera.paths import PROJECT

KILLED = """
import os, signal
from pathlib import Path
from include.chimera.lake.store.scratch import scratch
with scratch("warm") as folder:
    Path(folder, "partial_parse.msgpack").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""
HOUR = 3600


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def age(folder, seconds=HOUR):
    """Backdate a folder by the clock that the code uses, which may not be the file system's."""
    os.utime(folder, (0, time.time() - seconds))


def test_what_a_killed_process_left_goes_at_the_next_start(place):
    environment = {**os.environ, "TMPDIR": str(place)}  # noqa: TID251 - a child inherits
    command = [sys.executable, "-c", KILLED]
    subprocess.run(command, cwd=PROJECT, env=environment, check=False)  # noqa: S603 - our own
    (left,) = place.iterdir()
    age(left, 0)
    assert sweep_scratch() == 0, "it may belong to a process that is about to lock it"
    age(left)
    assert sweep_scratch() == 1
    assert not any(place.iterdir())


def test_what_lives_and_what_is_no_folder_of_ours_stays(place):
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    age(elsewhere)
    (place / "chimera-warm-link").symlink_to(elsewhere)
    (place / "chimera-gate-file").touch()
    if os.geteuid() == 0:
        stranger = place / "chimera-draft-stranger"
        stranger.mkdir()
        os.chown(stranger, 4711, 4711)
        age(stranger)
    with scratch("draft") as folder:
        age(Path(folder))
        before = sorted(place.iterdir())
        assert sweep_scratch() == 0
        assert sorted(place.iterdir()) == before
    assert (elsewhere / "file").exists()
    assert not Path(folder).exists()
