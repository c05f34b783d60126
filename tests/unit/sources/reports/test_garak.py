"""Reports of garak: failed tests are successful attacks, and an unfinished run is told."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from include.chimera.sources.reports.evaluations import FileFault, RefusedRecord
from tests.reading import (
    END,
    GARAK,
    WRITTEN,
    attempt,
    avid_report,
    evaluations,
    found,
    garak_eval,
    lines,
    origin,
)


def test_garak_failed_tests_are_successful_attacks_and_nones_count_for_neither(
    tmp_path: Path,
) -> None:
    """Seven of ten passed, so the attack succeeded three times; two more were not judged."""
    (row,) = evaluations(found(tmp_path, lines([*GARAK, garak_eval(), END])))
    assert (row.iterations, row.successes, row.passes, row.undetermined) == (12, 3, 7, 2)
    assert (row.provider_id, row.model_id, row.framework_version) == ("openai", "gpt-4o", "0.17.1")
    assert (row.technique, row.judge, row.evaluation_kind) == ("dan.Dan", "dan.DAN", "attack")
    assert row.created_at == datetime(2026, 2, 1, 10, 26, tzinfo=UTC)


def test_garak_time_without_a_zone_is_in_the_zone_that_is_set(tmp_path: Path) -> None:
    """The same report, written in Berlin, ended an hour earlier."""
    content = lines([*GARAK, garak_eval(), END])
    (row,) = evaluations(found(tmp_path, content, origin(zone="Europe/Berlin")))
    assert row.created_at == datetime(2026, 2, 1, 9, 26, tzinfo=UTC)


def test_garak_time_after_the_file_was_written_is_the_files(tmp_path: Path) -> None:
    """A wrong zone must not put evaluations into the future."""
    late = {**END, "end_time": "2026-03-01T15:00:00"}
    (row,) = evaluations(found(tmp_path, lines([*GARAK, garak_eval(), late])))
    assert row.created_at == WRITTEN


def test_garak_before_fails_and_nones_says_nothing_of_nones(tmp_path: Path) -> None:
    """An old entry has a total alone: its nones are unknown, not zero."""
    old = {"entry_type": "eval", "probe": "p", "detector": "d", "passed": 7, "total": 10}
    (row,) = evaluations(found(tmp_path, lines([*GARAK, old, END])))
    assert (row.iterations, row.successes, row.passes, row.undetermined) == (10, 3, 7, None)


def test_garak_without_eval_entries_is_counted_from_attempts_of_status_2(tmp_path: Path) -> None:
    """Each attempt is written twice, its scores stand in lists of lists, a null is no score."""
    content = lines(
        [
            *GARAK,
            attempt(1, detector_results={}),
            attempt(2, detector_results={"judge": [[0.0, 0.7], [0.5, None]]}),
            END,
        ]
    )
    (row,) = evaluations(found(tmp_path, content))
    assert (row.iterations, row.successes, row.passes, row.undetermined) == (4, 2, 1, 1)


def test_garak_without_completion_is_unfinished(tmp_path: Path) -> None:
    """A run that still works, or died, is told; its rows are not to be counted."""
    items = found(tmp_path, lines([*GARAK, garak_eval()]))
    assert items[-1] == FileFault("unfinished_run", 3)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (garak_eval(fails=4), "counts_contradict_each_other"),
        (garak_eval(passed=-1), "malformed_record"),
        (garak_eval(probe=None), "malformed_record"),
        ({"entry_type": 7}, "malformed_record"),
    ],
)
def test_garak_entry_that_can_not_be_is_refused_alone(
    tmp_path: Path, entry: dict[str, object], reason: str
) -> None:
    """The rest of the report stays."""
    items = found(tmp_path, lines([*GARAK, entry, garak_eval(), END]))
    (refused,) = [item for item in items if isinstance(item, RefusedRecord)]
    assert (refused.reason, len(evaluations(items))) == (reason, 1)


def test_garak_of_another_generation_is_refused_by_name(tmp_path: Path) -> None:
    """Version 1 may mean something else by the same words."""
    init = {**GARAK[1], "garak_version": "1.0.0"}
    assert found(tmp_path, lines([init, END]))[-1] == FileFault("unknown_version", 1)


def test_garak_run_in_two_files_has_one_key(tmp_path: Path) -> None:
    """A copied report counts once; AVID's report of the same run has the same key."""
    run = "40e599b4-161e-4850-b244-b32f3ec1aa1f"
    init = {**GARAK[1], "run": run}
    own = evaluations(found(tmp_path, lines([GARAK[0], init, garak_eval(), END])))
    copy = origin(f"archive/garak.{run}.avid.jsonl")
    rows = [{"detector": "dan.DAN", "passed": 7, "total_evaluated": 10, "score": 70.0}]
    avid = evaluations(found(tmp_path, lines([avid_report(rows)]), copy))
    assert [row.evaluation_id for row in avid] == [row.evaluation_id for row in own]
