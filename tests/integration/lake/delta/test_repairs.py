"""`--full-refresh` rebuilds a table that a mistake made unreadable, or refuses it by name.

What another engine or person may still read is never dropped: the message says what to do.
"""

from __future__ import annotations

import pytest
from deltalake import DeltaTable

from include.chimera.errors import LakeError, NotDeltaError, ProtocolUnsupportedError
from tests.integration.lake.store.damages import CHECKPOINT_DAMAGES, DAMAGES, make
from tests.versions import check_version

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("damaged")]
TABLE = "dev.orders"
OTHERS = (NotDeltaError, ProtocolUnsupportedError)
REPAIRED = {name: harm for name, (harm, kind, _) in DAMAGES.items() if kind not in OTHERS}
REFUSED = {name: (harm, kind) for name, (harm, kind, _) in DAMAGES.items() if kind in OTHERS}


def refresh(process) -> None:
    process().build("select 7 as id", table=TABLE, is_full_refresh=True)


def check_made_anew(process, table) -> None:
    assert process().rows(f"from {TABLE}") == [(7,)]
    assert check_version(str(table), DeltaTable(str(table)).version()) == 1


@pytest.mark.parametrize("damage", REPAIRED)
def test_a_full_refresh_repairs_what_nobody_can_read(process, lake, damage):
    table = make(lake)
    REPAIRED[damage](table)
    refresh(process)
    check_made_anew(process, table)


@pytest.mark.parametrize("damage", CHECKPOINT_DAMAGES)
def test_a_full_refresh_repairs_a_bad_checkpoint(process, lake, damage):
    table = make(lake, has_checkpoint=True)
    CHECKPOINT_DAMAGES[damage](table)
    refresh(process)
    check_made_anew(process, table)


def contents(place) -> dict[str, bytes]:
    files = [place] if place.is_file() else place.rglob("*")
    return {str(file): file.read_bytes() for file in files if file.is_file()}


@pytest.mark.parametrize("damage", REFUSED)
def test_what_others_may_read_stays_until_a_person_moves_it_away(process, lake, damage):
    """The message says how; then the model is built again."""
    harm, kind = REFUSED[damage]
    table = make(lake)
    harm(table)
    before = contents(table)
    with pytest.raises(LakeError, match="move ") as refused:
        refresh(process)
    assert isinstance(refused.value, kind)
    assert contents(table) == before
    table.rename(lake / "moved")
    refresh(process)
    check_made_anew(process, table)
