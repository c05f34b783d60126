"""The insight page of a real lake: its numbers again from facts, odd lakes, and a browser."""

from __future__ import annotations

import html
import re
import subprocess
from datetime import timedelta
from math import sqrt

import pytest
from deltalake import write_deltalake

from include.chimera.lake.ops_tables.consistent_snapshots import Snapshot, published_snapshot
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.operations.insight.page import (
    ATTACK_DAYS,
    ATTACKS,
    DAILY,
    HOURLY,
    TOPICS,
    cell,
    insight_place,
    render,
    write_insight,
)
from include.chimera.settings import get_settings
from scripts.run_examples import START, fill_lake
from tests.builders import run_of
from tests.insight import Reader, specs
from tests.integration.browser import BROWSER, DESK, PHONE, browsing, needs_browser, take
from tests.integration.dbt.test_reading import QUERIES

pytestmark = pytest.mark.integration

MADE_AT = START + timedelta(hours=3)
TABLES = (HOURLY, DAILY, ATTACK_DAYS, ATTACKS)
HOSTILE = (
    "</script><script>fetch('http://127.0.0.1:9/')</script>",
    "<img src=http://127.0.0.1:9/x onerror=alert(1)>",
    "\"'`{{7*7}}${7*7}&amp;",
    "\u202e\u05ea\u05d5\u05e7\u05e3/\u05de\u05d5\u05d3\u05dc",
    "long" * 500,
)
# Of docs/read.md, those that ask the page's tables.
RECIPES = {
    name: query for name, query in QUERIES.items() if any(table in query for table in TABLES)
}


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """Fill a lake of two hours, 08:00 to 10:00 on 2026-01-05, with gold by dbt."""
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIMERA_STATE_DIR", str(state))
        get_settings.cache_clear()
        fill_lake(state)
        yield state
    get_settings.cache_clear()


@pytest.fixture(scope="module")
def page(state):
    del state
    return render(published_snapshot(), MADE_AT)


@pytest.fixture
def lake(state):
    """Return a session with the views that the run left, as a reader has them."""
    with connect() as connection:
        views = (state / "lake" / "views.sql").read_text()
        connection.execute(views.replace("load delta;", ""))
        yield connection


def test_each_query_of_the_page_gives_a_reader_the_pages_rows(page, lake):
    """Those of the page came from its own copy of the tables, these from views.sql."""
    reader = Reader(page)
    assert set(reader.queries) == {topic.name for topic in TOPICS}
    for topic, query in reader.queries.items():
        found = lake.execute(query)
        columns = [column[0] for column in found.description]
        rows = [tuple(map(cell, row, columns)) for row in found.fetchall()]
        assert rows, topic
        assert reader.rows(topic) == rows[:200], topic


def test_costs_are_those_of_the_generations(page, lake):
    found = dict(
        lake.execute(
            "select provider_id, sum(cost_usd) from gold.fct_generations group by provider_id"
        ).fetchall()
    )
    rows = Reader(page).rows("cost_of_week")
    shown = {provider: cost for provider, model, cost, *_ in rows if model == "all"}
    total = sum(cost for cost in found.values() if cost is not None)
    assert shown == {name: cell(cost, "cost_usd") for name, cost in {**found, "all": total}.items()}
    (unpriced,) = lake.execute(
        "select sum(requests) from (select count(*) as requests, sum(cost_usd) as cost "
        "from gold.fct_generations group by model_id) where cost is null"
    ).fetchone()
    assert unpriced
    assert f"{unpriced:,} requests, of models without a cost, are in no bar" in page
    drawn = sum(row["cost_usd"] for row in specs(page)[0]["data"]["values"])
    assert drawn == pytest.approx(float(total), rel=1e-4)


def test_outcomes_tokens_and_percentiles_are_those_of_the_generations(page, lake):
    reader = Reader(page)
    outcomes = lake.execute(
        "select provider_id, count(*), count(*) filter (where status = 'succeeded'), "
        "count(*) filter (where status = 'filtered'), count(*) filter (where status = 'failed') "
        "from gold.fct_generations group by provider_id order by provider_id"
    ).fetchall()
    assert [row[1:6] for row in reader.rows("requests")] == [
        tuple(map(str, row)) for row in outcomes
    ]
    tokens = lake.execute(
        "select provider_id, sum(prompt_tokens), sum(completion_tokens) "
        "from gold.fct_generations group by provider_id order by provider_id"
    ).fetchall()
    assert [row[1:4] for row in reader.rows("tokens")] == [
        (name, f"{prompt:,}", f"{completion:,}") for name, prompt, completion in tokens
    ]
    percentiles = lake.execute(
        "select strftime(date_trunc('hour', created_at), '%Y-%m-%d %H:%M') as hour, model_id, "
        "quantile_cont(latency_ms, [0.5, 0.95, 0.99]) from gold.fct_generations "
        "where is_succeeded group by hour, model_id order by hour desc, model_id"
    ).fetchall()
    assert sorted((row[0], row[2], row[4:7]) for row in reader.rows("latency")) == sorted(
        (hour, model, tuple(f"{value:,.0f}" for value in values))
        for hour, model, values in percentiles
    )


def test_attack_rates_and_their_intervals_are_those_of_the_evaluations(page, lake):
    trials = lake.execute(
        "select technique, model_id, sum(trial_count), sum(successful_trial_count) "
        "from gold.fct_evaluations where trial_count > 0 group by all"
    ).fetchall()
    week = START.date() - timedelta(days=START.weekday())
    expected = {}
    for technique, model, count, successes in trials:
        z, rate = 1.959963984540054, successes / count
        centre = (rate + z * z / (2 * count)) / (1 + z * z / count)
        half = z * sqrt(rate * (1 - rate) / count + (z / (2 * count)) ** 2) / (1 + z * z / count)
        shown = (rate, max(centre - half, 0), min(centre + half, 1))
        expected[f"{week}", technique, model] = (
            *(f"{number:,}" for number in (count, successes)),
            *(f"{number:.1%}" for number in shown),
        )
    assert {row[:3]: row[3:] for row in Reader(page).rows("attacks_by_week")} == expected
    every = Reader(page).rows("attacks")
    assert sum(int(row[3]) for row in every) == sum(count for _, _, count, _ in trials)


def test_the_weeks_total_is_what_the_tiles_show(page, lake):
    cost, requests, success = lake.execute(
        "select sum(cost_usd), count(*), avg(is_succeeded::int) from gold.fct_generations"
    ).fetchone()
    tiles = re.findall(r'<div class="tile"><small>(.*?)</small><b>(.*?)</b>', page)
    assert dict(tiles[:3]) == {
        "cost, USD": f"{cost:,.2f}", "requests": f"{requests:,}", "succeeded": f"{success:.1%}",
    }  # fmt: skip
    assert tiles[4] == ("hours with rows", "2 of 168")
    assert page.count("no week before") == 4


def test_a_page_from_old_data_says_so(state):
    del state
    late = render(published_snapshot(), MADE_AT + timedelta(hours=5))
    assert "The newest hour in gold was not new" in late
    assert "The newest hour in gold was not new" not in render(published_snapshot(), MADE_AT)


def test_a_lake_without_tables_shows_nothing_and_no_zero(state):
    del state
    page = render(Snapshot("none", {}, run_of().window), MADE_AT)
    assert page.count("Nothing to show.") == len(TOPICS)
    assert page.count("not published") == len(TABLES)
    assert not specs(page)
    assert not Reader(page).cells
    assert "tile" not in Reader(page).tags


@pytest.fixture
def rewritten(lake, tmp_path, monkeypatch):
    """Return a function that makes a lake of changed gold tables, and its page."""

    def rewrite(**queries):
        state = tmp_path / "other"
        for name in TABLES:
            short = name.removeprefix("gold.")
            rows = lake.execute(queries.get(short, f"from {name}")).to_arrow_table()
            parts = [name for name in ("_window_hour", "_window_day") if name in rows.column_names]
            write_deltalake(state / "lake" / "gold" / short, rows, partition_by=parts or None)
        monkeypatch.setenv("CHIMERA_STATE_DIR", str(state))
        get_settings.cache_clear()
        write_insight(Snapshot("run <b>", dict.fromkeys(TABLES, 0), run_of().window))
        return insight_place()

    yield rewrite
    monkeypatch.undo()
    get_settings.cache_clear()


def text_of(place):
    with open(place, encoding="utf-8") as file:  # noqa: PTH123 - a place is text
        return file.read()


def test_empty_tables_show_nothing_and_no_zero(rewritten):
    empty = {name.removeprefix("gold."): f"from {name} where false" for name in TABLES}
    page = text_of(rewritten(**empty))
    assert page.count("has no rows in this snapshot") == len(TOPICS)
    assert not Reader(page).cells


def test_what_no_source_reports_is_unknown(rewritten):
    """Costs and tokens: nulls are no zeros."""
    gone = "cast(null as {}) as {}"
    lacks = ", ".join(
        gone.format(kind, name)
        for name, kind in (
            ("cost_usd", "decimal(38, 9)"), ("prompt_tokens", "bigint"),
            ("completion_tokens", "bigint"), ("availability_ratio", "double"),
        )
    )  # fmt: skip
    page = text_of(
        rewritten(
            agg_usage_daily=f"select * replace ({lacks}) from {DAILY}",
            agg_provider_hourly=f"select * replace ({lacks}) from {HOURLY}",
        )
    )
    assert page.count("No row of gold.agg_usage_daily has such a value") == 2
    assert "gold.agg_usage_daily has no such rows in these days" in page
    assert {row[2] for row in Reader(page).rows("cost_of_week")} == {"\N{EN DASH}"}
    tiles = dict(re.findall(r'<div class="tile"><small>(.*?)</small><b>(.*?)</b>', page))
    assert tiles["cost, USD"] == tiles["available"] == "\N{EN DASH}"


OF_CALLS = {"cost", "cost_of_week", "requests", "latency", "tokens", "hours"}
OF_ATTACKS = {"attacks", "attacks_by_week", "attack_changes"}


@pytest.mark.parametrize(
    ("profile", "untold", "tiles"),
    [
        ("litellm", {"availability"} | OF_ATTACKS, {"cost, USD", "requests", "succeeded"}),
        ("reports", OF_CALLS | {"changes", "availability", "hour"}, set()),
        ("vllm", OF_CALLS | OF_ATTACKS, {"available"}),
        ("litellm,reports,vllm", set(), {"cost, USD", "requests", "succeeded", "available"}),
    ],
)
def test_what_no_profile_reads_is_unknown_whatever_gold_says(state, choose, profile, untold, tiles):
    """Gold counts no calls where a model was only watched: a zero that nobody reported."""
    del state
    choose(profile)
    page = render(published_snapshot(), MADE_AT)
    reader = Reader(page)
    assert {topic.name for topic in TOPICS} - set(reader.queries) == untold
    assert page.count(f"no chosen profile ({profile}) reads such rows") == len(untold)
    shown = set(re.findall(r'<div class="tile"><small>(.*?)</small>', page)) - {"hours with rows"}
    assert shown == tiles
    headings = set(re.findall(r"<th[^>]*>(.*?)</th>", page))
    assert ("availability now" in headings) == ("vllm" in profile)
    assert ("requests now" in headings) == ("litellm" in profile)


def test_a_column_that_an_older_table_lacks_is_named(rewritten):
    page = text_of(
        rewritten(agg_technique_daily=f"select * exclude (trial_count) from {ATTACK_DAYS}")
    )
    assert page.count("gold.agg_technique_daily is of an older release") == 2
    assert "trial_count" in " ".join(Reader(page).texts)
    assert len(Reader(page).queries) == len(TOPICS)


def test_questions_open_the_files_of_their_days_alone(rewritten):
    """Of 1,000 hours and 200 days: what the page asks, and what docs/read.md does."""
    earlier = "strftime(strptime({0}, '{1}') - n * interval '{2}', '{1}') as {0}"
    hours = earlier.format("_window_hour", "%Y%m%dT%H", "2 hours")
    days = earlier.format("_window_day", "%Y%m%d", "1 day")
    text = text_of(
        rewritten(
            agg_provider_hourly=f"select * replace ({hours}) from {HOURLY}, range(500) as back(n)",
            agg_usage_daily=f"select * replace ({days}) from {DAILY}, range(200) as back(n)",
            agg_technique_daily=f"select * replace ({days}) from {ATTACK_DAYS}, range(200) as b(n)",
        )
    )
    asked = Reader(text).queries | RECIPES
    with connect() as connection:
        # Naming the files that a filter leaves out is where `explain` itself fails.
        connection.execute("set delta_scan_explain_files_filtered = false; create schema gold")
        for name in TABLES:
            place = f"{get_settings().lake}/{name.replace('.', '/')}"
            connection.execute(f"create view {name} as from delta_scan('{place}')")
        for topic, query in asked.items():
            *before, last = query.strip().removesuffix(";").split(";\n\n")
            connection.execute(";".join(before))
            told = str(connection.execute(f"explain analyze {last}").fetchall())
            opened = sum(map(int, re.findall(r"Total Files Read: (\d+)", told)))
            assert 0 < opened <= (336 if HOURLY in query else 84), topic


def hostile_tables():
    listed = "[" + ", ".join("'" + name.replace("'", "''") + "'" for name in HOSTILE) + "]"
    replaced = f"{listed}[1 + cast(hash(model_id) % {len(HOSTILE)} as bigint)] as model_id"
    provider = f"{listed}[1 + cast(hash(provider_id) % {len(HOSTILE)} as bigint)] as provider_id"
    technique = f"{listed}[1 + cast(hash(technique) % {len(HOSTILE)} as bigint)] as technique"
    return {
        "agg_usage_daily": f"select * replace ({replaced}, {provider}) from {DAILY}",
        "agg_provider_hourly": f"select * replace ({replaced}, {provider}) from {HOURLY}",
        "agg_technique_daily": f"select * replace ({replaced}, {technique}) from {ATTACK_DAYS}",
        "agg_technique_by_framework": f"select * replace ({replaced}, {technique}) from {ATTACKS}",
    }


def test_hostile_names_are_text_and_nothing_else(rewritten, page):
    hostile = text_of(rewritten(**hostile_tables()))
    reader, plain = Reader(hostile), Reader(page)
    kinds = {tag for tag, _ in plain.tags}
    assert {tag for tag, _ in reader.tags} == kinds
    assert hostile.count("<script") == page.count("<script")
    assert not [attrs for _, attrs in reader.tags if {"src", "onerror", "onload"} & set(attrs)]
    names = {row[1] for row in reader.rows("cost_of_week")} - {"all"}
    assert names <= set(HOSTILE)
    assert len(names) > 2
    assert "run <b>" in html.unescape(hostile)
    assert "run <b>" not in hostile


@needs_browser
@pytest.mark.parametrize("kind", ["plain", "hostile"])
def test_a_browser_draws_each_chart_without_a_request_or_an_error(rewritten, tmp_path, kind):
    place = rewritten(**(hostile_tables() if kind == "hostile" else {}))
    log = tmp_path / "net.json"
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
        "--enable-logging=stderr", f"--log-net-log={log}", f"--user-data-dir={tmp_path / 'home'}",
        "--virtual-time-budget=60000", "--window-size=390,844", f"file://{place}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)  # noqa: S603
    assert not re.findall(r"CONSOLE.*", done.stderr)
    drawn = done.stdout
    assert 'data-drawn="all"' in drawn
    charts = len(specs(text_of(place)))
    assert charts > 10
    assert drawn.count('<svg xmlns="http://www.w3.org/2000/svg"') == charts
    asked = re.findall(r'"url":"(?!file:|data:|chrome)([^"]*)"', log.read_text())
    assert not asked


@needs_browser
def test_the_page_fits_a_desk_and_a_phone_in_the_light_and_the_dark(rewritten, tmp_path):
    """Nothing is wider than the window, and the dark is dark."""
    place = f"file://{rewritten()}"
    looks = {
        "insight": {"viewport": DESK},
        "insight-dark": {"viewport": DESK, "color_scheme": "dark"},
        "insight-phone": {"viewport": PHONE},
    }
    with browsing() as browser:
        for name, look in looks.items():
            page = browser.new_page(**look)
            page.goto(place)
            page.wait_for_selector('[data-drawn="all"]')
            assert (
                page.evaluate("document.documentElement.scrollWidth") <= look["viewport"]["width"]
            )
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            is_dark = sum(map(int, re.findall(r"\d+", ground))) < 300
            assert is_dark is ("dark" in name)
            take(page, tmp_path / f"{name}.webp")
            page.close()
