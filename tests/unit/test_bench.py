"""When `make bench-check` reports a regression."""

from benchmarks.__main__ import worse
from benchmarks.records import Record


def line(name, ratio, peer="peer"):
    return Record(name, peer, ratio, value=1.0, unit="s")


def test_only_a_ratio_beyond_the_tolerance_is_worse():
    kept = [line("a", 1.0), line("b", 1.0), line("c", 1.0)]
    now = [line("a", 1.2), line("b", 1.3), line("c", 0.5), line("new", 9.0)]
    assert worse(now, kept) == ["b beside peer: was 1.00, is 1.30"]


def test_a_ratio_that_is_no_longer_measured_is_told():
    kept = [line("a", 1.0, "old peer")]
    assert worse([line("a", 1.0)], kept) == ["a beside old peer: was 1.00, not measured"]
