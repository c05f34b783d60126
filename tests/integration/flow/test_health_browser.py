"""The health page in a browser: twelve incidents, its controls, and how it looks.

Airflow's own API server shows it, on a lake where the pipeline's own code failed in each way.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from include.chimera.local.servers.postgres_server import APP_DATABASE
from include.chimera.paths import PROJECT
from include.chimera.window import HOUR, floor_hour
from tests.integration.browser import DESK, PHONE, browsing, needs_browser, take
from tests.integration.flow.person import ask, assert_understood, done, words
from tests.integration.flow.programs import AIRFLOW_USERS, started

pytestmark = [pytest.mark.integration, needs_browser]


@dataclass(frozen=True)
class Seen:
    """What a person has to find: which table, its state, why, what to do."""

    table: str
    state: str
    why: tuple[str, ...]
    what: tuple[str, ...]


INCIDENTS = {
    "late_source": Seen(
        "bronze.api_logs",
        "failed",
        ("The source api_logs did not complete the hour in time", "no _SUCCESS"),
        ("see what holds the source back", "Run the failed tasks again"),
    ),
    "refused_batch": Seen(
        "bronze.generations",
        "refused",
        ("not_null_status", "rows are bad. Readers have the last good version"),
        ("accept exactly these rows", "Stage and judge again"),
    ),
    "model_broken": Seen(
        "gold.dim_providers",
        "failed",
        ("build_dim_providers failed", "a model that compiles", "BinderException"),
        ("mend the model, deploy",),
    ),
    "worker_killed": Seen(
        "bronze.provider_metrics",
        "failed",
        ("extract_provider_metrics failed after 2 attempts", "sudden death"),
        ("Look at the machine's memory and at the scheduler's log",),
    ),
    "wrong_credentials": Seen(
        "bronze.models",
        "failed",
        ("a database that lets us in", 'role "reader" does not exist'),
        ("correct the connection's login, password",),
    ),
    "drift": Seen(
        "bronze.evaluations",
        "warned",
        ("anomaly_rows", "The median of this hour on former days is 1,000"),
        ("Wrong rows: stop publishing, put the table back",),
    ),
    "gate_down": Seen(
        "bronze.evaluations",
        "failed",
        ("gate_bronze_evaluations failed after 4 attempts", "MemoryExhaustedError"),
        ("raise CHIMERA_DUCKDB_MEMORY_LIMIT",),
    ),
    "shrinking_hour": Seen(
        "bronze.api_logs",
        "failed",
        ("gate_bronze_api_logs failed after 2 attempts", "ShrinkError"),
        ("allow_shrink",),
    ),
    "full_disk": Seen(
        "bronze.generations",
        "failed",
        ("StorageRefusedError", "File too large"),
        ("make space",),
    ),
    "missing_hour": Seen(
        "bronze.models",
        "hours are missing",
        ("no run has worked on it",),
        ("Heal the gap", "Runbook: Hours are missing"),
    ),
    "outlier": Seen(
        "bronze.generations",
        "warned",
        ("usual_latency_ms", "3,000,000"),
        ("Wrong rows: stop publishing, put the table back",),
    ),
    "stopped_publishing": Seen(
        "bronze.generations",
        "stopped",
        ("publishing stopped by maria", "costs look wrong"),
        ("Mend what it was stopped for, then resume", "Resume publishing"),
    ),
}
NAMES = list(INCIDENTS)
BAD, WORSE, ODD, STOPPED = NAMES[:6], NAMES[6:10], NAMES[10:11], NAMES[11:]
SCENES = {name: scene for scene in (BAD, WORSE, ODD, STOPPED) for name in scene}


class Served:
    """Airflow's UI on a lake with incidents, in a browser."""

    def __init__(self, program, browser, home):
        self.program, self.browser, self.errors = program, browser, home / "stderr"
        self.planted, self.open = [], []
        told = self._answer()
        self.url, self.tokens = told["url"], told["tokens"]
        self.now = floor_hour(datetime.now(UTC))
        self.run_id = f"scheduled__{self.now.isoformat()}"

    def _answer(self):
        for line in self.program.stdout:
            if line.startswith(("{", '"')):
                return json.loads(line)
        raise AssertionError(self.errors.read_text())

    def plant(self, names, *, anew=False):
        """Make the newest hour bad in these ways alone, unless it is."""
        if anew or names != self.planted:
            self.program.stdin.write(" ".join(names) + "\n")
            self.program.stdin.flush()
            assert self._answer() == "planted"
        self.planted = names

    def page(self, path, role="USER", size=DESK, **more):
        """Open a page as somebody with a role; it says nothing in the console."""
        context = self.browser.new_context(viewport=size, base_url=self.url, **more)
        context.add_cookies([{"name": "_token", "value": self.tokens[role], "url": self.url}])
        self.open.append(context)
        page = context.new_page()
        page.goto(path)
        return page

    def close(self):
        while self.open:
            self.open.pop().close()


@pytest.fixture(scope="module")
def served(postgres, tmp_path_factory):
    home = tmp_path_factory.mktemp("airflow")
    variables = {
        **AIRFLOW_USERS,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "CHIMERA_START_DATE": (floor_hour(datetime.now(UTC)) - 24 * HOUR).isoformat(),
        "CHIMERA_TEST_APP_DB": postgres.uri(APP_DATABASE),
    }
    with (
        browsing() as browser,
        started("incidents", postgres, home, PROJECT / "dags", **variables) as program,
    ):
        yield Served(program, browser, home)


@pytest.fixture
def scene(served):
    """Return a function that plants incidents and opens a page; see `Served.page`."""

    def show(names, path="/chimera/", **more):
        served.plant(names)
        return served.page(path, **more)

    yield show
    served.close()


@pytest.fixture
def again(served):
    """Let the next test plant its incidents anew, because this one changes them."""
    yield
    served.planted = None


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in BAD else pytest.mark.long) for name in INCIDENTS],
)
def test_an_incident_is_understood_in_two_clicks_and_ten_seconds(served, scene, name) -> None:
    """Which table, in which state, since when, why, and what to do."""
    expected = INCIDENTS[name]
    hour = served.now - (4 if name == "missing_hour" else 1) * HOUR
    wanted = {expected.table, expected.state, *expected.why, *expected.what}
    wanted.add(f"{hour:%Y-%m-%d}")
    served.plant(SCENES[name])
    assert_understood(lambda: scene(SCENES[name]), expected.table, wanted)


def test_what_waits_is_told_apart_from_what_needs_a_person(scene) -> None:
    page = scene(BAD)
    assert page.inner_text("h1") == "5 of 21 tables need you, 9 wait for them"
    cards = page.locator(".card.refused, .card.failed")
    assert cards.count() == 5
    waiting = page.locator("h2:has-text('What waits') ~ .card").first.inner_text()
    assert "gold.agg_provider_hourly" in waiting
    assert "bronze.generations, bronze.provider_metrics" in waiting


def test_a_viewer_has_no_working_control(scene) -> None:
    page = scene(BAD, role="VIEWER")
    buttons = page.locator("button[data-action]")
    assert buttons.count() > 5
    assert all(button.is_disabled() for button in buttons.all())
    assert "may look but not change" in words(page)
    sent = "fetch('/chimera/actions/stop', {method: 'POST', body: '{}'}).then((it) => it.status)"
    assert page.evaluate(sent) == 403


@pytest.mark.usefixtures("again")
def test_a_person_accepts_and_is_told_why_a_second_control_can_not_act(scene) -> None:
    """The run is at work then: the dialog stays, with the error's four parts."""
    page = scene(BAD)
    ask(page, page.locator("button[data-action=accept]"), "known, see the ticket")
    assert re.match(r"user accepts not_null_status, .*; \d+ tasks run again", done(page))
    ask(page, page.locator("button[data-action=rerun]").first, "again")
    page.wait_for_selector("dialog [role=alert]:has-text('in state')")
    assert "it may be at work" in page.inner_text("dialog [role=alert]")
    page.click("dialog [data-cancel]")
    assert page.locator("dialog").is_hidden()


@pytest.mark.usefixtures("again")
def test_publishing_is_stopped_a_table_put_back_and_publishing_resumed(scene) -> None:
    page = scene(BAD)
    ask(page, page.locator("button[data-action=stop]"), "latency looks wrong")
    assert "publishing stopped by user" in done(page)
    assert page.locator("strong.word.stopped").first.is_visible()
    page.click('a[href$="/table/bronze.generations"]')
    button = page.locator("button[data-action=restore]").first
    ask(page, button, "latency looks wrong", int(button.get_attribute("data-version")))
    assert "Mend the cause, then resume" in done(page)
    assert "restored by user: latency looks wrong" in words(page)
    page.click("nav a")
    ask(page, page.locator("button[data-action=resume]").first, "mended")
    assert "publishing resumed by user" in done(page)


@pytest.mark.long
@pytest.mark.usefixtures("again")
def test_a_gap_is_healed_and_letters_replayed(scene) -> None:
    page = scene(WORSE)
    ask(page, page.locator("button[data-action=heal]"), "after the outage")
    assert "is queued" in done(page)
    page = scene(ODD)
    page.wait_for_selector("button[data-action=replay]")
    ask(page, page.locator("button[data-action=replay]"), "mended")
    assert "is queued" in done(page)


def test_whoever_is_no_longer_signed_in_is_told(scene) -> None:
    page = scene(BAD)
    page.locator("button[data-action=rerun]").first.click()
    page.context.clear_cookies()
    page.fill("dialog [name=reason]", "again")
    page.click("dialog [type=submit]")
    page.wait_for_selector("dialog [role=alert]:not(:empty)")
    assert "sign in" in page.inner_text("dialog [role=alert]")


def frame(page):
    """Return Airflow's frame around the page, once it shows it."""
    inner = page.frame_locator("iframe[title=Health]")
    inner.locator("h1").wait_for()
    return inner


def test_links_stay_in_airflows_frame_or_lead_out_of_it_as_they_should(scene) -> None:
    """Both pages stand in the navigation itself, in no menu."""
    page = scene(BAD, "/plugin/chimera_health_nav")
    inner = frame(page)
    for name in ("Health", "Insight"):
        page.get_by_role("link", name=name).first.wait_for()
    inner.locator('.card.failed a[href$="/table/gold.dim_providers"]').click()
    inner.locator("h1:has-text('gold.dim_providers')").wait_for()
    assert "/plugin/chimera_health_nav" in page.url
    inner.get_by_role("link", name="The task's log").click()
    page.wait_for_url("**/dags/chimera_etl_hourly/runs/**/tasks/build_dim_providers**")


def test_a_control_works_in_airflows_frame(scene) -> None:
    inner = frame(scene(BAD, "/plugin/chimera_health_nav"))
    inner.locator("button[data-action=rerun]").first.click()
    assert inner.locator("dialog").is_visible()
    inner.locator("dialog [data-cancel]").click()
    assert inner.locator("dialog").is_hidden()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_frame_takes_the_uis_theme_whatever_the_system_prefers(scene, theme) -> None:
    other = {"light": "dark", "dark": "light"}[theme]
    page = scene(BAD, "/plugin/chimera_health_nav", color_scheme=other)
    page.evaluate(f"localStorage.setItem('theme', '{theme}')")
    page.reload()
    inner = frame(page)
    assert inner.locator("html").get_attribute("data-theme") == theme
    ground = inner.locator("body").evaluate("it => getComputedStyle(it).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) > 600) is (theme == "light")


PLACES = ["/", "/table/bronze.generations", "/table/gold.agg_technique_by_framework", "/runbook"]


@pytest.mark.parametrize("path", PLACES)
def test_nothing_is_cut_on_a_phone(scene, path) -> None:
    page = scene(BAD, f"/chimera{path}", size=PHONE)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    cut = "[...document.querySelectorAll('.tables td, .head, h1')]"
    cut += ".filter((it) => it.scrollWidth > it.clientWidth + 1).map((it) => it.innerText)"
    assert page.evaluate(cut) == []


def test_pictures_of_the_page_are_taken(scene, served, pictures) -> None:
    """Those of docs/: in Airflow's frame, in the dark, on a phone, beside a run and a task."""
    shown = [name for name in BAD if name != "wrong_credentials"]  # it names a folder of the test's
    page = scene(shown, "/plugin/chimera_health_nav")
    frame(page).locator(".card.refused").wait_for()
    take(page, pictures / "health.webp")
    page = scene(shown, color_scheme="dark")
    assert page.locator(".card.refused").bounding_box()["y"] < DESK["height"] / 2
    take(page, pictures / "health-dark.webp")
    page = scene(shown, size=PHONE)
    take(page, pictures / "health-phone.webp")
    run = f"/dags/chimera_etl_hourly/runs/{quote(served.run_id)}"
    page = scene(shown, f"{run}/plugin/chimera_health_dag_run")
    assert "said last" in frame(page).locator("body").inner_text()
    take(page, pictures / "health-run.webp")
    page = scene(shown, f"{run}/tasks/build_dim_providers/plugin/chimera_health_task_instance")
    page.get_by_role("heading", name="build_dim_providers").first.wait_for()
    assert "gold.dim_providers" in frame(page).locator("h1").inner_text()
    take(page, pictures / "health-task.webp")
