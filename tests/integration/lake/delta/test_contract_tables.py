"""Bronze and ops tables say what they hold, also those that an older release made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from include.chimera.contracts import CONTRACTS
from include.chimera.lake.delta.columns import comments_of
from include.chimera.lake.delta.commits import Change, commit
from include.chimera.lake.delta.lineage import changes_since
from include.chimera.lake.delta.parquet_files import write_files
from include.chimera.lake.delta.scans import empty
from include.chimera.lake.delta.tables import contract_table, create_table, open_table
from include.chimera.lake.store.places import folder_of

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from include.chimera.contracts import Contract

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]

MODELS = CONTRACTS["bronze.models"]


def are_told(table: DeltaTable, contract: Contract) -> bool:
    """Does a table have its contract's comments?"""
    return (
        table.metadata().description == contract.description
        and comments_of(table.schema()) == contract.comments
    )


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_new_table_has_its_comments_from_the_first_version(name: str) -> None:
    table = contract_table(name)
    assert table.version() == 0
    assert are_told(table, CONTRACTS[name])


def test_an_older_table_gets_its_comments_once_and_keeps_its_files(connection) -> None:
    """One version without a file; what reads the table has nothing to compute again."""
    row = "select 'm1' as model_id, now() as updated_at, 'h' as _row_hash"
    rows = f"{empty(MODELS.schema)} union all by name {row}"
    files = write_files(connection, rows, folder_of(MODELS.name), MODELS.schema, [])
    old = create_table(MODELS.name, MODELS.schema, [])
    commit(MODELS.name, lambda: old, lambda _: Change(files))
    before = open_table(MODELS.name)
    assert not before.metadata().description

    table = contract_table(MODELS.name)
    assert table.version() == before.version() + 1
    assert are_told(table, MODELS)
    assert table.file_uris() == before.file_uris()
    assert changes_since(table, before.version()).touched == frozenset()
    assert contract_table(MODELS.name).version() == table.version()
