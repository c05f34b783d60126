"""Days of hourly runs with faults: the tables end equal to the source, and nothing grows.

All hours are due when the stack starts, and the schedule works them off one by one, as it does
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
from tests.e2e.soak import DAY, FAULTS, START, Soak
from tests.e2e.source_rows import differences

pytestmark = pytest.mark.e2e

QUANTITIES = ("mib", "files", "processes", "connections", "log_kib")


def check_growth(measured, say):
    """Compare the first day's last third with its first one, and each further day with the next."""
    third = max(min(len(measured), DAY) // 3, 1)
    later = measured[DAY:]
    for name in QUANTITIES:
        first, last = (
            statistics.median(getattr(each, name) for each in some)
            for some in (measured[:third], measured[:DAY][-third:])
        )
        say(f"{name}: {first:g} in the first third of the first day, {last:g} in the last")
        assert last <= 1.3 * first, name
        if later:  # by its days' medians: a leak raises them, a moment does not
            values = [getattr(each, name) for each in later]
            days = [statistics.median(values[at : at + DAY]) for at in range(0, len(values), DAY)]
            slope = statistics.linear_regression(range(len(days)), days).slope
            slope /= statistics.mean(days)
            say(f"{name}: medians of the further days {days}; slope {slope:+.2%} a day")
            assert slope < 0.01, name


def check_days(duty, hours, say, kinds):
    """Run the days on a stack; check tables, messages and resources."""
    began = time.monotonic()
    taken = Soak(duty, hours, say, kinds)
    plan = taken.run()
    say(f"{hours} hours in {time.monotonic() - began:.0f} s; faults {plan}")
    say(f"mended: {taken.mended}")
    assert differences(duty) == {}
    told = Counter(text.partition("\n")[0] for _, text in duty.slack.taken)
    assert {line: count for line, count in told.items() if count > 1} == {}
    assert sum("published" in line for line in told) == hours
    refused = [line for line in told if "bronze.evaluations is refused" in line]
    assert len(refused) == list(plan.values()).count("bad_batch")
    check_growth(taken.measured, say)


def soak(root, hours, say, kinds=FAULTS):
    """Start the stack, run the days, stop everything."""
    due = Window(START, START + hours * HOUR)
    with on_duty(root, [due], due) as duty:
        try:
            check_days(duty, hours, say, kinds)
        finally:
            down(duty.settings)
        layout = duty.stack.layout
    assert not find_marked(layout)


@pytest.mark.long
def test_a_day_with_faults_ends_as_the_source_says(tmp_path, say) -> None:
    soak(tmp_path, DAY, say)


@pytest.mark.week
def test_a_week_with_faults_ends_as_the_source_says_and_grows_in_nothing(tmp_path, say) -> None:
    soak(tmp_path, 7 * DAY, say)


@pytest.fixture
def say(capsys):
    def shown(text):
        with capsys.disabled():
            sys.stdout.write(f"{text}\n")

    return shown
