"""OpenMetrics text reads back as it was written."""

import numpy as np
import pytest

from include.chimera.demo.openmetrics import (
    Family,
    Series,
    read_series,
    write_families,
)
from include.chimera.errors import DataFaultError


def series(*values, labels=(("provider", "boreas"),), first=1_767_600_000_000, step=30_000):
    times = np.arange(len(values), dtype=np.int64) * step + first
    return Series("llm_provider_up", labels, times, np.array(values, np.float64))


def test_values_labels_and_times_survive_the_round_trip():
    odd = series(0.1, 1e300, float("inf"), float("nan"), labels=(("model", 'a"b\\c\nd'),), step=250)
    text = write_families([Family("llm_provider_up", "gauge", "Up.", [[odd]])]).decode()
    (back,) = read_series(text)
    assert back.labels == odd.labels
    assert back.times.tolist() == odd.times.tolist()
    assert np.array_equal(back.values, odd.values, equal_nan=True)


def test_no_families_are_an_empty_exposition():
    assert write_families([]) == b"# EOF\n"
    assert read_series("# EOF\n") == []


@pytest.mark.parametrize("text", ["", "llm_provider_up 1 1\n", "not a sample\n# EOF\n"])
def test_text_that_is_cut_off_or_no_exposition_is_refused(text):
    with pytest.raises(DataFaultError):
        read_series(text)
