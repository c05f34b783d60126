"""Whatever the values, the split refuses the rows that Great Expectations counts."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.chimera.contracts import PARTITION
from include.chimera.quality.rules.book import gated_tables
from tests.integration.quality.gating import RUN, assert_split_agrees, gated, stage

pytestmark = pytest.mark.integration
ROWS = 40

HOSTILE: dict[pa.DataType, list[object]] = {
    pa.int64(): [0, -1, 1, 2**31, -(2**31)],
    pa.float64(): [0.0, -0.0, 1.0000001, -1e-9, 1e308, float("nan"), float("inf"), -float("inf")],
    pa.decimal128(18, 9): [Decimal(0), Decimal(-1), Decimal("0.000000001"), Decimal(10**8)],
    pa.string(): [
        "",
        " ",
        "unknown",
        "a/b",
        "A/B",
        "\n",
        "x\u0301",
        "'; drop table x; --",
        "ü" * 300,
    ],
    pa.bool_(): [True, False],
    pa.timestamp("us", "UTC"): [
        RUN.window.start,
        RUN.window.end,
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=UTC),
    ],
    pa.date32(): [date(1, 1, 1), RUN.window.start.date(), date(9999, 12, 31)],
}
"""Values that a column can hold and that a rule may stumble over; null goes with each."""


@st.composite
def mangled(draw: st.DrawFn, rows: pa.Table) -> pa.Table:
    """Put hostile values anywhere into the first rows of a table."""
    rows = rows.slice(0, ROWS)
    columns = []
    for field, column in zip(rows.schema, rows.columns, strict=True):
        values = column.to_pylist()
        if field.name != PARTITION:
            strange = st.dictionaries(
                st.integers(0, len(values) - 1),
                st.sampled_from([None, *HOSTILE.get(field.type, ())]),
                max_size=6,
            )
            for number, value in draw(strange).items():
                values[number] = value
        columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=pa.schema([field.with_nullable(True) for field in rows.schema]))


@pytest.mark.usefixtures("gate_lake")
@given(data=st.data())
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_split_and_gx_count_the_same_rows(data, clean_rows: dict[str, pa.Table]) -> None:
    """Nulls, NaN, infinities, bounds, odd texts, times at the ends of the calendar."""
    table = data.draw(st.sampled_from(gated_tables()))
    stage(RUN, table, data.draw(mangled(clean_rows[table])))
    with gated(RUN, table) as (gate, verdict):
        assert_split_agrees(gate, verdict)
