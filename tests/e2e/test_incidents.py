"""Six incidents, one after the other, on a real scheduler: seen, told, and mended by the page.

Whoever mends them knows Airflow's UI alone. The servers run a clone of the project, so that a model
can be broken; its database asks for a password, which may be wrong; its lake is a small disk.
"""

import contextlib
import html
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import psycopg
import pytest

from include.chimera.local.servers.stack import DAG_ID
from include.chimera.paths import PROJECT
from include.chimera.sources.api_logs.log_files import hour_path
from include.chimera.window import HOUR, Window, floor_hour
from tests.e2e.clones import fresh_clone
from tests.e2e.duty import on_duty
from tests.e2e.soak import title as title_of
from tests.e2e.source_rows import differences
from tests.integration.browser import browsing, needs_browser
from tests.integration.flow.person import ask, assert_understood, done

pytestmark = [pytest.mark.e2e, pytest.mark.long, needs_browser]

PATIENT = {"CHIMERA_DEADLINE_SECONDS": "86400"}  # hours run long after their end: none is late
READER = "chimera_reader"
DISK = "64m"
HOURS = 7  # a good one, and one for each incident


class Deployment:
    """The running stack, and whoever looks at its health page.

    Args:
        duty: The stack.
        browser: A browser.
        clone: The code that the stack runs.
        hours: The sample's hours.
        is_small: Whether the lake's disk is a small one.
    """

    def __init__(self, duty, browser, clone, hours, is_small):
        self.duty, self.clone, self.hours, self.is_small = duty, clone, hours, is_small
        self.database = psycopg.connect(duty.stack.app_db_uri, autocommit=True)
        self.processed, url = None, duty.stack.plan.url
        self.context = browser.new_context(base_url=url)
        duty.stack.api.runs(DAG_ID)  # signs in
        token = duty.stack.api._client.headers["Authorization"].removeprefix("Bearer ")
        self.context.add_cookies([{"name": "_token", "value": token, "url": url}])
        self.page = self.context.new_page()

    @property
    def hour(self):
        """The next hour."""
        return Window.of_hour(self.processed.end)

    def begin(self):
        """Let the next hour run; return the run's id."""
        self.processed = self.hour
        bounds = {"window_start": self.processed.start, "window_end": self.processed.end}
        conf = {name: moment.isoformat() for name, moment in bounds.items()}
        return self.duty.trigger(DAG_ID, **conf)

    def end(self, run_id, state):
        run = self.duty.wait(DAG_ID, run_id, 600.0)
        assert run.state == state, self.duty.states(DAG_ID, run_id)

    def fail(self):
        """Let the next hour run, and fail; return the run's id."""
        run_id = self.begin()
        self.end(run_id, "failed")
        return run_id

    def show(self):
        """Open the page of all tables."""
        self.page.goto("/chimera/")
        return self.page

    def assert_seen(self, table, state, *wanted):
        """See what a person has to find: which table is the worst, how, since when, why, what."""
        since = f"since {self.processed.start:%Y-%m-%d %H:%M}"
        assert_understood(self.show, table, {table, state, since, *wanted})
        worst = self.show().locator("div.card").first.inner_text()
        assert table in worst
        assert state in worst

    def assert_told(self, run_id, title, *wanted):
        """See that both channels have told an incident, once."""
        self.duty.slack.wait_for(title, run_id)
        self.duty.mail.wait_for(title, run_id)
        for inbox in (self.duty.slack, self.duty.mail):
            ((_, text),) = inbox.find(title, run_id)
            assert [word for word in wanted if word not in html.unescape(text)] == []

    def click(self, run_id, table, control, *tasks):
        """Let the tasks run again by a control of the table's card; wait for a good end."""
        before = {task: len(self.duty.tries(DAG_ID, run_id, task)) for task in tasks}
        card = self.show().locator(".card").filter(has_text=table).first
        ask(self.page, card.locator(f"button[data-action={control}]").first, "mended")
        assert "tasks run again" in done(self.page)
        self.end(run_id, "success")
        for task, count in before.items():
            assert len(self.duty.tries(DAG_ID, run_id, task)) == count + 1
            assert self.duty.states(DAG_ID, run_id)[task] == "success"

    def assert_well(self, run_id, *tables):
        """See that the page, the message and the tables say that nothing is left."""
        page = self.show()
        assert page.locator("div.card.failed, div.card.refused").count() == 0
        until = f"{self.processed.end:%Y-%m-%d %H:%M}"
        found = page.locator("tr:has(td a)").all()
        rows = {row.locator("a").first.inner_text(): row.inner_text() for row in found}
        for table in tables:
            assert until in rows[table]
        self.duty.slack.wait_for("is published", run_id)
        so_far = Window(self.hours.start, self.processed.end)
        assert differences(self.duty, so_far) == {}


@contextlib.contextmanager
def small_disk(folder):
    """Mount a small disk where there may be one; yield whether there is."""
    folder.mkdir(parents=True)
    mount = shutil.which("mount")
    options = ("-t", "tmpfs", "-o", f"size={DISK},mode=0700", "chimera", str(folder))
    is_small = bool(mount) and not subprocess.run([mount, *options], check=False).returncode  # noqa: S603 - ours
    try:
        yield is_small
    finally:
        if is_small:
            subprocess.run(["umount", str(folder)], check=True)  # noqa: S603, S607 - as above


def ask_for_a_password(duty, word):
    """Let the pipeline's role read the sample's tables, with a password."""
    role = (PROJECT / "include/chimera/sources/postgres/reader_role.sql").read_text()
    rules = duty.stack.layout.postgres_data / "pg_hba.conf"
    with psycopg.connect(duty.stack.app_db_uri, autocommit=True) as database:
        database.execute(role)
        database.execute(f"alter role {READER} password '{word}'")
        rules.write_text(f"local app {READER} scram-sha-256\n{rules.read_text()}")
        database.execute("select pg_reload_conf()")


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """Start the deployment, and let a first hour succeed."""
    root = tmp_path_factory.mktemp("incidents")
    clone = fresh_clone(root / "project")
    subprocess.run([sys.executable, "-m", "include.chimera", "manifest"], cwd=clone, check=True)
    now = floor_hour(datetime.now(UTC))
    hours = Window(now - HOURS * HOUR, now)
    first = Window.of_hour(hours.start)
    from_database = {"AIRFLOW_CONN_APP_DB": ""}
    with (
        small_disk(root / "state" / "lake") as is_small,
        browsing() as browser,
        on_duty(root, [hours], first, clone=clone, **PATIENT, **from_database) as duty,
    ):
        ask_for_a_password(duty, "right")
        connection = {
            "connection_id": "app_db",
            "conn_type": "postgres",
            "host": str(duty.stack.layout.socket_dir),
            "login": READER,
            "password": "right",  # pragma: allowlist secret
            "schema": "app",
        }
        duty.request("POST", "/connections", **connection)
        deployment = Deployment(duty, browser, clone, hours, is_small)
        duty.stack.api.set_paused(DAG_ID, is_paused=False)
        while not (runs := duty.stack.api.runs(DAG_ID)):
            time.sleep(0.5)
        deployment.processed = first
        deployment.end(runs[0].run_id, "success")
        yield deployment
        deployment.database.close()


@contextlib.contextmanager
def writing(file):
    """Be at work on a file, as a log's writer is."""
    is_done = threading.Event()

    def write():
        while not is_done.wait(0.5):
            file.touch()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        is_done.set()
        writer.join()


def test_a_late_source(live) -> None:
    """The hour's log still grows; its writer is done later."""
    folder = live.duty.stack.layout.root / "sources/api_logs" / hour_path(live.hour.start)
    (folder / "_SUCCESS").unlink()
    with writing(folder / "api.jsonl"):
        run_id = live.fail()
    live.assert_seen(
        "bronze.api_logs",
        "failed",
        "The source api_logs did not complete the hour in time",
        "no _SUCCESS",
        "see what holds the source back",
        "Run the failed tasks again",
    )
    live.assert_told(run_id, "wait_for_api_logs failed", "no _SUCCESS", "see what holds the source")
    (folder / "_SUCCESS").touch()
    live.click(run_id, "bronze.api_logs", "rerun", "wait_for_api_logs")
    live.assert_well(run_id, "bronze.api_logs", "gold.fct_api_requests")


def kill(live, run_id, task_id, number):
    """Kill an attempt of a dbt task once dbt works."""
    path = f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{task_id}"
    log = live.duty.stack.layout.task_logs / f"dag_id={DAG_ID}" / f"run_id={run_id}"
    log = log / f"task_id={task_id}" / f"attempt={number}.log"
    deadline = time.monotonic() + 300
    while not (log.is_file() and '"dbt_event"' in log.read_text()):
        live.duty.stack.check()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    title = f"airflow worker -- {live.duty.request('GET', path)['id']}"
    (process,) = (p for p in live.duty.stack.line.processes() if title in title_of(p))
    process.kill()


def test_a_killed_worker(live) -> None:
    """Twice, as the kernel does to the largest process of a full machine."""
    run_id = live.begin()
    for number in (1, 2):
        kill(live, run_id, "build_fct_evaluations", number)
    live.end(run_id, "failed")
    live.assert_seen(
        "gold.fct_evaluations",
        "failed",
        "build_fct_evaluations failed after 2 attempts",
        "sudden death",
        "Look at the machine's memory and at the scheduler's log",
        "Run the failed tasks again",
    )
    live.assert_told(run_id, "build_fct_evaluations failed", "sudden death", "machine's memory")
    live.click(run_id, "gold.fct_evaluations", "rerun", "build_fct_evaluations")
    live.assert_well(run_id, "gold.fct_evaluations")


def test_a_broken_model(live) -> None:
    """A deploy brings a model that reads a column which nothing has."""
    file = live.clone / "include/dbt/models/marts/dim_providers.sql"
    good = file.read_text()
    assert "is_enabled" in good
    file.write_text(good.replace("is_enabled", "is_enabeld"))
    run_id = live.fail()
    live.assert_seen(
        "gold.dim_providers",
        "failed",
        "build_dim_providers failed",
        "a model that compiles",
        "BinderException",
        "mend the model, deploy",
        "Run the failed tasks again",
    )
    live.assert_told(run_id, "build_dim_providers failed", "BinderException", "mend the model")
    file.write_text(good)
    live.click(run_id, "gold.dim_providers", "rerun", "build_dim_providers")
    live.assert_well(run_id, "gold.dim_providers")


def test_wrong_credentials(live) -> None:
    """The database's owner gave the role another password."""
    live.database.execute(f"alter role {READER} password 'other'")
    run_id = live.fail()
    live.assert_seen(
        "bronze.generations",
        "failed",
        "extract_generations failed",
        "a database that lets us in",
        f'password authentication failed for user "{READER}"',
        "correct the connection's login, password",
        "Run the failed tasks again",
    )
    live.assert_told(run_id, "extract_generations failed", "password authentication failed")
    corrected = {"connection_id": "app_db", "conn_type": "postgres", "password": "other"}
    live.duty.request("PATCH", "/connections/app_db", **corrected)
    live.click(run_id, "bronze.generations", "rerun", "extract_generations", "extract_models")
    live.assert_well(run_id, "bronze.generations", "bronze.models", "gold.fct_generations")


def test_a_full_disk(live) -> None:
    """Somebody else's file takes all the space that the lake's disk has left."""
    if not live.is_small:
        pytest.skip("nobody but root mounts a small disk")
    other = live.duty.stack.layout.root / "lake/somebody_elses"
    with contextlib.suppress(OSError), other.open("wb") as file:
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    try:
        run_id = live.fail()
        live.assert_seen(
            "bronze.api_logs",
            "failed",
            "StorageRefusedError",
            "No space left on device",
            "make space",
            "Run the failed tasks again",
        )
        live.assert_told(run_id, "extract_api_logs failed", "No space left", "make space")
        live.assert_told(run_id, "the run failed", "extract_api_logs", "storage take files")
        assert not live.duty.slack.find("sudden death", run_id)
    finally:
        other.unlink()
    live.click(run_id, "bronze.api_logs", "rerun", "extract_api_logs")
    live.assert_well(run_id, "bronze.api_logs", "gold.fct_api_requests")


def test_a_refused_batch(live) -> None:
    """Staged and judged again once it is right at the source."""
    start, end = live.hour.start.isoformat(), live.hour.end.isoformat()
    live.database.execute("alter table app.evaluations add column was int")
    live.database.execute("update app.evaluations set was = successes")
    live.database.execute(
        "update app.evaluations set successes = -1 "
        f"where updated_at >= '{start}' and updated_at < '{end}'"
    )
    run_id = live.fail()
    live.assert_seen(
        "bronze.evaluations",
        "refused",
        "Its gate refused",
        "Readers have the last good version",
        "mend it there, then stage and judge again",
        "Stage and judge again",
    )
    live.assert_told(run_id, "bronze.evaluations is refused", "broken rules", "successes")
    live.database.execute("update app.evaluations set successes = was")
    tasks = ("extract_evaluations", "gate_bronze_evaluations")
    live.click(run_id, "bronze.evaluations", "restage", *tasks)
    live.assert_well(run_id, "bronze.evaluations", "gold.fct_evaluations")
