"""The catalogue agrees with itself."""

import pytest

from include.chimera import contracts
from include.chimera.contracts import BRONZE, CONTRACTS, OPS, PARTITION, Contract


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
def test_contract_is_consistent(contract: Contract) -> None:
    """Keys and times are required columns; descriptions state the grain."""
    fields = {field.name: field for field in contract.schema}
    assert all(not fields[name].nullable for name in contract.key)
    if contract.event_time:
        assert not fields[contract.event_time].nullable
    assert contract.description.startswith("One row per ")
    assert contract.layer in {"bronze", "ops"}
    assert contract.source_columns
    if contract.kind in {"versions", "events"}:
        assert contract.partition_by == (PARTITION,)


def test_versions_are_told_apart_by_a_row_hash() -> None:
    """Otherwise an append-only table could not recognize the versions that it holds."""
    for contract in BRONZE:
        has_hash = "_row_hash" in contract.schema.names
        assert has_hash == (contract.kind in {"versions", "reference"})


def test_names_are_unique() -> None:
    """No table is described twice."""
    assert len(CONTRACTS) == len(BRONZE) + len(OPS)


def test_each_contract_is_registered() -> None:
    """A contract outside the catalogue would be a table that nobody fills."""
    declared = [each for each in vars(contracts).values() if isinstance(each, Contract)]
    assert {each.name for each in declared} == set(CONTRACTS)
