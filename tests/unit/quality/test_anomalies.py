"""Is an hour like the same hour of former days?"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.chimera.quality.anomalies import MIN_DAYS, is_unusual, measures
from tests.builders import run_of

DAYS = [1000.0, 1040.0, 980.0, 1010.0, 1005.0, 990.0]


@pytest.mark.parametrize(
    ("kind", "value", "unusual"),
    [
        ("rows", 1100, False),
        ("rows", 400, True),
        ("rows", 2000, True),
        ("rows", 0, True),
        ("gate_seconds", 0, False),
        ("gate_seconds", 3100, True),
    ],
)
def test_far_numbers_are_unusual(kind: str, value: float, unusual: bool) -> None:
    """Durations only where they are longer."""
    assert is_unusual(value, DAYS, kind) is unusual


def test_null_ratio_is_compared_in_points() -> None:
    """A column that was never null and now is in a third of the rows."""
    assert is_unusual(0.33, [0.0] * MIN_DAYS, "null_ratio")
    assert not is_unusual(0.1, [0.0] * MIN_DAYS, "null_ratio")


@given(st.lists(st.floats(0, 1e9), max_size=MIN_DAYS - 1), st.floats(0, 1e9))
def test_few_days_prove_nothing(former: list[float], value: float) -> None:
    """The first week raises no alarm."""
    assert not is_unusual(value, former, "rows")


@given(st.floats(0, 1e6), st.sampled_from(["rows", "freshness_seconds", "gate_seconds"]))
def test_what_always_was_is_not_unusual(value: float, kind: str) -> None:
    """Equal numbers are equal, whatever they are."""
    assert not is_unusual(value, [value] * 14, kind)


def test_measures_come_from_the_files_statistics() -> None:
    """Rows, null ratios and freshness without reading a row."""
    stats = {
        "numRecords": 4,
        "nullCount": {"model_id": 1},
        "maxValues": {"created_at": "2026-01-01T05:45:00.000Z"},
    }
    stage = {"files": [{"stats": json.dumps(stats)}]}
    found = {m.rule_id: m.value for m in measures(run_of(), "bronze.generations", stage, 0.5)}
    assert found["anomaly_rows"] == 4
    assert found["anomaly_null_ratio_model_id"] == 0.25
    assert found["anomaly_freshness_seconds"] == 900
    assert found["anomaly_gate_seconds"] == 0.5


def test_empty_stage_has_a_row_count_alone() -> None:
    """No ratio of nothing."""
    found = measures(run_of(), "bronze.generations", {"files": []}, 0.5)
    assert [m.kind for m in found] == ["rows", "gate_seconds"]
