"""A profile's query is held to the contract before anything is read."""

import pytest

from include.chimera.contracts import MODELS
from include.chimera.errors import ContractError
from include.chimera.sources.postgres.column_check import check_query_columns

FOUND = {"updated_at": "timestamptz", "model_id": "text", "input_usd_per_mtok": "float8"}


def test_a_query_may_leave_columns_out():
    assert check_query_columns(MODELS, FOUND, "models.sql") == [
        "model_id",
        "input_usd_per_mtok",
        "updated_at",
    ]


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"updated_at": "timestamptz"}, "model_id is missing"),
        ({**FOUND, "prompt": "text"}, "prompt is not the contract's"),
        ({**FOUND, "updated_at": "timestamp"}, "updated_at is timestamp, not timestamptz"),
    ],
)
def test_other_columns_and_types_are_named(columns, named):
    with pytest.raises(ContractError, match=named) as caught:
        check_query_columns(MODELS, columns, "models.sql")
    assert "models.sql" in caught.value.where
