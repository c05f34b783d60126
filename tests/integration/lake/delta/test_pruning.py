"""A query does not open the files that their partition or bounds rule out."""

from __future__ import annotations

import re

import pytest

from include.chimera.lake.delta.tables import open_table

pytestmark = pytest.mark.integration

COMMITS = 104  # delta-rs writes a checkpoint at each hundredth


@pytest.fixture
def history(process):
    """Fill a table by one commit an hour, past its first checkpoint."""
    one = process()
    for number in range(COMMITS):
        at_ = f"timestamptz '2026-01-01 00:00:00+00' + interval {number} hour"
        hour = f"strftime({at_}, '%Y%m%dT%H')"
        query = f"select id, {hour} as hour from (values ({number}), (null)) t(id)"
        one.build(query, "append", partition_by=("hour",))
    reader = process()
    reader.connection.execute("set variable window_start = timestamptz '2026-01-01 05:00:00+00'")
    reader.connection.execute("set variable window_end = timestamptz '2026-01-01 07:00:00+00'")
    return reader


def files_read(process, condition) -> int:
    query = f"explain analyze from dev.model where {condition}"
    process.session.catalog.show_named(query)
    ((_, plan),) = process.connection.execute(query).fetchall()
    return int(re.search(r"Total Files Read: (\d+)", plan)[1])


def test_files_are_skipped_and_no_row_is_lost_beyond_a_checkpoint(history, lake):
    assert list((lake / "dev" / "model" / "_delta_log").glob("*.checkpoint*.parquet"))
    assert open_table("dev.model").version() == COMMITS
    hour = "'20260101T05'"
    window = ("hour between strftime(getvariable('window_start'), '%Y%m%dT%H') and "
              "strftime(getvariable('window_end') - interval 1 hour, '%Y%m%dT%H')")  # fmt: skip
    for condition, expected, most in (
        (window, 2, 2),
        (f"hour = {hour}", 1, 1),
        (f"hour <> {hour}", COMMITS - 1, COMMITS),
        (f"hour > {hour}", COMMITS - 6, COMMITS - 6),
        ("hour is not null", COMMITS, COMMITS),
        ("id = 7", 1, 1),
        ("id <> 7", COMMITS - 1, COMMITS),
        ("id is null", COMMITS, COMMITS),
        ("id between 3 and 5", 3, 3),
    ):
        found = history.rows(f"select count(distinct hour) from dev.model where {condition}")
        assert found == [(expected,)], condition
        assert files_read(history, condition) <= most, condition
