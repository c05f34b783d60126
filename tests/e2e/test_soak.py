"""A day of hourly runs with faults: the tables end equal to the source, and nothing grows.

All 24 hours are due when the stack starts, and the schedule works them off one by one, as it does
after a long outage. While a run works, something breaks. Servers that end are started again by the
keeper, as with `make up`; what a person would mend is mended.
"""

import statistics
import sys
import time
from collections import Counter

import pytest

from include.chimera.cli.servers import down
from include.chimera.local.supervision.processes import find_marked
from include.chimera.window import HOUR, Window
from tests.e2e.duty import on_duty
from tests.e2e.soak import FAULTS, START, Soak
from tests.e2e.source_rows import differences

pytestmark = [pytest.mark.e2e, pytest.mark.long]


def check_growth(measured, say):
    """Compare the day's last third with its first one."""
    third = max(len(measured) // 3, 1)
    for index, name, allowed in ((1, "MiB", 1.3), (2, "open files", 1.3), (3, "processes", 1.3)):
        first, last = (
            statistics.median(row[index] for row in rows)
            for rows in (measured[:third], measured[-third:])
        )
        say(f"{name}: {first:g} in the first third, {last:g} in the last")
        assert last <= allowed * first, name


def check_day(duty, hours, say, kinds):
    """Run the day on a stack; check tables, messages and resources."""
    began = time.monotonic()
    taken = Soak(duty, hours, say, kinds)
    plan = taken.day()
    say(f"{hours} hours in {time.monotonic() - began:.0f} s; faults {plan}")
    say(f"mended: {taken.mended}")
    say(f"hour, MiB, open files, processes: {taken.measured}")
    assert differences(duty) == {}
    told = Counter(text.partition("\n")[0] for _, text in duty.slack.taken)
    assert {line: count for line, count in told.items() if count > 1} == {}
    assert sum("published" in line for line in told) == hours
    refused = [line for line in told if "bronze.evaluations is refused" in line]
    assert len(refused) == ("bad_batch" in plan.values())
    check_growth(taken.measured, say)


def soak(root, hours, say, kinds=FAULTS):
    """Start the stack, run the day, stop everything."""
    day = Window(START, START + hours * HOUR)
    with on_duty(root, [day], day) as duty:
        try:
            check_day(duty, hours, say, kinds)
        finally:
            down(duty.settings)
        layout = duty.stack.layout
    assert not find_marked(layout)


def test_a_day_with_faults_ends_as_the_source_says(tmp_path, capsys) -> None:
    def say(text):
        with capsys.disabled():
            sys.stdout.write(f"{text}\n")

    soak(tmp_path, 24, say)
