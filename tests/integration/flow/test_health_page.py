"""The health page over Airflow's own application and login, on a lake that real gates filled.

Planted: a refused table, one that a person accepted, a source that is late, a model that broke, a
task that waits for its retry.
"""

import re
from datetime import UTC, datetime

import pytest

from include.chimera.paths import PROJECT
from include.chimera.window import HOUR, floor_hour
from tests.integration.flow.programs import AIRFLOW_USERS, told_by

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=["folder", pytest.param("bucket", marks=pytest.mark.long)])
def told(request, postgres, tmp_path_factory):
    """Return what the page said to nobody, a viewer and a user, of a lake in either place."""
    home = tmp_path_factory.mktemp("airflow")
    start = floor_hour(datetime.now(UTC)) - 3 * HOUR
    in_bucket = request.param == "bucket"
    variables = {
        **(request.getfixturevalue("object_store").new_lake() if in_bucket else {}),
        **AIRFLOW_USERS,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "CHIMERA_START_DATE": start.isoformat(),
    }
    with told_by("health", postgres, home, PROJECT / "dags", **variables) as answers:
        yield answers


def words(page):
    """Return a page's text without its marks."""
    text = re.sub(r"(?s)<(style|script).*?</\1>|<[^>]+>", " ", page)
    return re.sub(r"\s+", " ", text)


def card(page, table):
    """Return the text of the first card that names a table."""
    cards = re.split(r'<div class="card', page)
    return words(next(each for each in cards[1:] if table in each))


def test_no_route_answers_without_a_login(told) -> None:
    """Airflow leaves a plugin's routes open unless they ask themselves."""
    assert {path for _, path, *_ in told["codes"]} >= {"/", "/run/{run_id}", "/actions/accept"}
    assert [line for line in told["codes"] if line[2] != 401] == []


def test_a_viewer_sees_but_changes_nothing(told) -> None:
    """A user comes as far as the check of what was sent, which was empty."""
    changing = [line for line in told["codes"] if line[0] != "get"]
    assert len(changing) == 8
    assert [line for line in changing if line[3:] != [403, 422]] == []
    assert [line for line in told["codes"] if line[0] == "get" and line[3] not in {200, 404}] == []
    assert "may look but not change" in words(told["overview"])


def test_the_worst_comes_first_with_cause_and_remedy(told) -> None:
    """Which table, since when, why, what to do."""
    page, hour = told["overview"], floor_hour(datetime.now(UTC)) - HOUR
    refused = card(page, "bronze.generations")
    assert page.index("bronze.generations") == min(
        page.index(name) for name in re.findall(r"table/([\w.]+)", page)
    )
    assert "refused since" in refused
    assert f"since {hour:%Y-%m-%d %H:%M}" in refused or f"{hour - HOUR:%H:%M}" in refused
    assert "not_null_status" in refused
    assert "accept bronze.generations --run" in refused
    assert "Runbook: A gate failed" in refused


def test_each_incident_is_told_as_what_it_is(told) -> None:
    page = told["overview"]
    assert "The source api_logs did not complete the hour" in card(page, "bronze.api_logs")
    model = card(page, "silver.stg_app__models")
    assert "build_stg_app__models failed after 4 attempts" in model
    assert "waits for bronze.generations" in card(page, "silver.stg_app__generations")
    assert "extract_provider_metrics failed once more" in words(page)
    assert "maria let not_null_status" in words(page)


def test_the_table_page_has_rules_versions_relatives_and_letters(told) -> None:
    text = words(told["table"])
    assert "not_null_status critical" in text
    assert "silver.stg_app__generations blocked" in text
    assert f"scheduled__{floor_hour(datetime.now(UTC)) - HOUR:%Y-%m-%d}" in text


def test_a_refused_hour_is_compared_with_the_live_version(told) -> None:
    """By key; the hour's own rows are new."""
    text = words(told["changes"])
    counted = re.findall(r"([\d,]+) (?:added|changed|removed)", text)
    assert [int(count.replace(",", "")) for count in counted] == [told["rows"], 0, 0]
    assert "by generation_id" in text
    assert "against version" in words(told["changed"])


def test_the_timeline_tells_what_went_wrong_first(told) -> None:
    text = words(told["run"])
    assert words(told["by_correlation_id"]) == text
    assert "bronze.generations failed: not_null_status" in text
    assert "maria accepted bronze.evaluations" in text
    assert "build_stg_app__models, attempt 4: failed" in text


def test_the_month_and_the_letters_are_read_after_the_first_paint(told) -> None:
    text = words(told["later"])
    assert "not_null_status" in text
    assert re.search(r"bronze\.generations \d+ \d+ 0 -\d+", text)
    assert "bronze.evaluations" in card(told["later"], "not_null_status")


def test_a_task_leads_to_its_table(told) -> None:
    assert "<h1>silver.stg_app__models" in told["task"]


def test_each_section_that_pages_link_to_is_in_the_runbook(told) -> None:
    linked = {
        name
        for page in ("overview", "later", "table", "stopped")
        for name in re.findall(r'runbook#([^"]+)"', told[page])
    }
    assert len(linked) > 3
    assert linked <= set(re.findall(r'<h[23] id="([^"]+)"', told["runbook"]))


def test_publishing_is_stopped_and_resumed_by_who_is_signed_in(told) -> None:
    assert told["empty_reason"][0] == 422
    assert told["stop"][0] == told["resume"][0] == 200
    assert [(each["decided_by"], each["reason"]) for each in told["decisions"]] == [
        ("user", "costs look wrong"),
        ("user", "mended"),
    ]
    assert "publishing stopped by user" in words(told["stopped"])


def test_a_table_is_put_back_only_while_publishing_is_stopped(told) -> None:
    code, said = told["restore_too_soon"]
    assert (code, "stopped publishing" in said["detail"]) == (409, True)
    assert told["restore"][0] == 200
    assert "restored by user: costs look wrong" in words(told["restored"])


def test_accepting_records_who_and_lets_the_gate_run_again(told) -> None:
    assert told["accept"][0] == 200, told["accept"]
    record = told["acceptance"]
    assert (record["accepted_by"], record["reason"]) == ("user", "it is a test")
    assert told["again"]["gate_bronze_generations"] is None
    assert told["again"]["build_stg_app__generations"] is None


def test_failed_tasks_run_again_with_a_note_of_who_and_why(told) -> None:
    assert told["rerun"][0] == told["restage"][0] == 200, (told["rerun"], told["restage"])
    assert told["note"] == "user: mended there"
    assert told["again"]["build_stg_app__models"] is None
    assert told["again"]["extract_generations"] is None
    assert told["again"]["gate_bronze_models"] == "success"


def test_a_run_that_is_at_work_is_not_cleared(told) -> None:
    code, said = told["rerun_at_work"]
    assert (code, "in state queued" in said["detail"]) == (409, True)


def test_replay_and_heal_begin_runs_that_name_who_and_why(told) -> None:
    assert told["replay"][0] == told["heal"][0] == 200, (told["replay"], told["heal"])
    runs = {dag_id: told_of for dag_id, *told_of in told["runs"]}
    assert runs["chimera_dead_letter_replay"][:2] == ["user", "user: mended"]
    name, note, conf = runs["chimera_etl_hourly"]
    assert (name, note) == ("user", "user: after the outage")
    assert set(conf) == {"window_start", "window_end"}
