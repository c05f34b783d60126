"""The lake's own files: who may read newly written ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from include.chimera.lake.store import storage
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from pathlib import Path


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
