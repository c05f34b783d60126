"""The lake's own files: who may read newly written ones."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from include.chimera.lake.store import storage
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.integration


@pytest.mark.parametrize("write", [storage.write_text, storage.create_text])
@pytest.mark.parametrize("root", ["", "elsewhere/lake"])
def test_state_and_lake_are_private_unless_a_person_made_them(
    lake: Path, monkeypatch: pytest.MonkeyPatch, write: object, root: str
) -> None:
    """The lake may be outside the state folder; folders shared by others are not changed."""
    made = lake.parent / root if root else lake
    if root:
        monkeypatch.setenv("CHIMERA_LAKE_ROOT", str(made))
        get_settings.cache_clear()
    write(f"{made}/ops/one/text", "a")
    assert made.stat().st_mode & 0o777 == 0o700
    made.chmod(0o755)
    write(f"{made}/ops/two/text", "a")
    assert made.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_is_made_while_it_is_listed_is_no_missing_file(tmp_path: Path) -> None:
    """Two models that are the first of their lake meet so, once in some thousand times."""
    rounds, at_once = 20_000, threading.Barrier(2)

    def make() -> None:
        with suppress(threading.BrokenBarrierError):
            for number in range(rounds):
                at_once.wait()
                (tmp_path / str(number)).mkdir()

    maker = threading.Thread(target=make)
    maker.start()
    try:
        for number in range(rounds):
            at_once.wait()
            assert storage.folders(str(tmp_path / str(number))) == []
    finally:
        at_once.abort()
        maker.join()
