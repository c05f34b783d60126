"""Whatever happens in whatever order, the lake ends as the source: a state machine, and the marts.

The application writes, updates and deletes; runs of the schedule, retries, killed processes and
backfills load the changes; upkeep runs in between. All on a real PostgreSQL and a real lake.
"""

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.publish.bronze_publisher import WATERMARK
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.lake.store.places import folder_of
from include.chimera.lake.upkeep.optimization import maintain, optimize_layer
from include.chimera.paths import DBT_PROJECT
from include.chimera.profiles.chosen import intake_of
from include.chimera.sources.postgres.deletions import extract_deletions
from tests.integration.dbt.processes import Project
from tests.integration.ingest import process
from tests.integration.ingest.pipeline import (
    GENERATION,
    at,
    create_schema,
    current,
    hour,
    ingest,
    insert,
    key,
    publish,
    run_of,
)

pytestmark = pytest.mark.integration
KEYS = st.integers(0, 5)
STEPS = ("extract.rows_written", "publish.files_written", "publish.committed", "ledger.start")
MARTS = ["dev_gold.fct_generations", "dev_gold.agg_provider_hourly", "dev_gold.agg_usage_daily"]


class Ingestion(RuleBasedStateMachine):
    """The state machine; the application's clock is in the hour that the schedule runs next."""

    def __init__(self, server, configure, folder):
        super().__init__()
        self.server, self.folder = server, folder / str(len(list(folder.iterdir())))
        self.folder.mkdir()
        self.session = connect()
        configure(state_dir=self.folder, compact_files=2)
        create_schema(server)
        self.now, self.moment, self.kills, self.mark, self.versions = 0, 0, 0, 0, set()
        self.owed = set()

    @rule(number=KEYS, status=st.sampled_from(["succeeded", "failed", "filtered"]))
    def write(self, number, status):
        self.moment += 1
        insert(self.server, number, at(self.now, self.moment), created=at(0), status=status)

    @precondition(lambda self: self.now > 0)
    @rule(number=KEYS, seconds=st.integers(1, 599))
    def commit_late(self, number, seconds):
        """Commit less than the overlap behind the watermark, unless a newer version exists.

        Before the first hour there is no watermark: what is older than it belongs to no run.
        """
        statement = insert(None, number, at(self.now - seconds / 3600), created=at(0))
        self.server.execute(f"{statement} where generations.updated_at < excluded.updated_at")

    @precondition(lambda self: self.now > 1)
    @rule(number=KEYS, back=st.integers(1, 9))
    def commit_far_too_late(self, number, back):
        """Commit a row that only a backfill of its hour can find."""
        past = max(self.now - 1 - back, 0)
        statement = insert(None, number, at(past, 1), created=at(0))
        self.server.execute(f"{statement} where generations.updated_at < excluded.updated_at")
        self.owed.add(past)

    @rule(number=KEYS)
    def delete(self, number):
        self.server.execute(f"delete from app.generations where generation_id = '{key(number)}'")

    @rule()
    def schedule(self):
        ingest(self.server.uri(), run_of(self.now))
        version = open_table(GENERATION).version()
        assert ingest(self.server.uri(), run_of(self.now)).rows_published == 0
        assert open_table(GENERATION).version() == version
        self.now, self.moment = self.now + 1, 0

    @precondition(lambda self: self.kills == 0)
    @rule(step=st.sampled_from(STEPS))
    def schedule_killed_and_retried(self, step):
        self.kills += 1
        fault = f"{step}=kill"
        child = process.start(
            self.server.uri(), self.now, f"killed {self.now}", fault, state_dir=self.folder
        )
        assert process.finish(child)[0] < 0
        process.whole_hour(self.server.uri(), self.now, f"killed {self.now}")
        self.now, self.moment = self.now + 1, 0

    @precondition(lambda self: self.now > 0)
    @rule(back=st.integers(1, 9))
    def backfill(self, back):
        past, mark = max(self.now - back, 0), self._watermark()
        ingest(self.server.uri(), run_of(past, f"backfill {past}", moves_watermark=False))
        assert self._watermark() == mark
        self.owed.discard(past)

    @rule()
    def reconcile(self):
        run = run_of(max(self.now - 1, 0), "reconcile", moves_watermark=False)
        extract_deletions(intake_of(GENERATION), self.server.uri(), run)
        publish(run)

    @rule()
    def optimize(self):
        before = self._rows("*")
        optimize_layer("bronze")
        maintain(dry_run=False)
        assert self._rows("*") == before

    @invariant()
    def nothing_is_doubled_and_no_version_is_lost(self):
        versions = Counter(self._rows("generation_id, _row_hash"))
        assert set(versions.values()) <= {1}
        assert versions.keys() >= self.versions
        self.versions = set(versions)

    @invariant()
    def the_watermark_only_advances_and_never_beyond_its_window(self):
        mark = self._watermark()
        assert mark >= self.mark
        assert mark <= int(hour(self.now).start.timestamp() * 1_000_000)
        self.mark = mark

    def _rows(self, columns):
        table = open_table(GENERATION)
        query = table and f"select {columns} from ({scan(table, GENERATION)}) order by all"
        return self.session.execute(query).fetchall() if query else []

    def _watermark(self):
        table = open_table(GENERATION)
        return (table and table.transaction_version(WATERMARK)) or 0

    def teardown(self):
        """Let the schedule and the owed backfills end: the lake is the source."""
        for past in sorted(self.owed):
            self.backfill(self.now - past)
        self.schedule()
        self.reconcile()
        source = self.server.query(
            "select generation_id::text, created_at, updated_at, status "
            "from app.generations order by 1"
        )
        assert [row[:4] for row in current()] == source
        self.session.close()


@pytest.mark.parametrize(
    ("examples", "steps"), [(2, 8), pytest.param(25, 30, marks=pytest.mark.long)]
)
def test_the_union_of_all_runs_is_the_source(server, configure, tmp_path, examples, steps):
    run_state_machine_as_test(
        lambda: Ingestion(server, configure, tmp_path),
        settings=settings(
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],  # shrinking would take longer than the whole ring
            max_examples=examples,
            stateful_step_count=steps,
            suppress_health_check=list(HealthCheck),
        ),
    )


def build(state):
    """Build the marts as outside a DAG run: each model computes what its table lacks."""
    models = [f"+{name.partition('.')[2]}" for name in MARTS]
    places = ["--project-dir", str(DBT_PROJECT), "--profiles-dir", str(DBT_PROJECT)]
    target = ["--target-path", str(state.parent / "target")]
    Project(state, {}).dbt("run", "--select", *models, *places, *target)


def shuffled(seed):
    """Return five hours in any order, some twice, None where the models are built in between."""
    hours = [*range(5), *range(0, 5, 2), None, None]
    random.Random(seed).shuffle(hours)  # noqa: S311 - no secret
    return hours


@pytest.mark.parametrize(
    "orders",
    [
        [[0, 1, 2], [2, 0, None, 1, 2]],
        pytest.param([list(range(5)), *map(shuffled, range(8))], marks=pytest.mark.long),
    ],
    ids=["three_hours", "five_hours"],
)
def test_any_order_of_backfills_gives_the_same_marts(server, uri, tmp_path, configure, orders):
    """Updated rows, each hour in and out of order and one twice, models built in between."""
    last = max(orders[0])
    for number in range(12):
        place = at(number % (last + 1), number)
        insert(server, number, place, status="failed" if number % 2 else "filtered")
    insert(server, 1, at(last, 100), created=at(1, 1))
    marts = []
    for count, order in enumerate(orders):
        state = tmp_path / str(count)
        state.mkdir()
        configure(state_dir=state)
        for attempt, number in enumerate(order):
            if number is None:
                build(state)
            else:
                ingest(uri, run_of(number, f"backfill {attempt}", moves_watermark=False))
        build(state)
        with connect() as connection:
            marts.append(
                [
                    connection.execute(
                        f"from delta_scan('{folder_of(name)}') order by all"
                    ).fetchall()
                    for name in MARTS
                ]
            )
    assert all(each == marts[0] for each in marts)
    assert len(marts[0][0]) == 12
