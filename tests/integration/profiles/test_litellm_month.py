"""A month of LiteLLM's calls, flushed late, in the gold tables: equal to its own daily sums."""

import random
from datetime import timedelta

import pytest

from include.chimera.lake.delta.scans import ask
from include.chimera.profiles.chosen import intake_of
from include.chimera.sources.postgres.extract import extract_table
from include.chimera.sources.postgres.late_rows import extract_late_rows
from include.chimera.window import HOUR, Run, Window, floor_hour
from tests.integration.dbt.test_models import dbt
from tests.integration.ingest.pipeline import START, publish
from tests.integration.profiles.litellm import DAILY, call

pytestmark = [pytest.mark.integration, pytest.mark.long]

TABLE = "bronze.generations"
FIRST = floor_hour(START).replace(hour=0)
DAYS, CALLS_A_DAY = 30, 240
BUSY_HOURS = (0, 7, 13, 23)  # not all: one build of 720 hours needs more memory than an hour's
FLUSH = timedelta(seconds=60)
OUTAGE = (FIRST + timedelta(days=12, hours=5), FIRST + timedelta(days=12, hours=14))
MODELS = [("gpt-4o", "openai"), ("claude-sonnet", "anthropic"), ("azure/gpt-4o", "azure"), ("", "")]


def calls():
    """Return rows with the moment at which they reach the database, in its order."""
    draw = random.Random(16)  # noqa: S311 - no secret
    found = []
    for number in range(DAYS * CALLS_A_DAY):
        day, hour = draw.randrange(DAYS), draw.choice(BUSY_HOURS)
        started = FIRST + timedelta(days=day, hours=hour, seconds=draw.uniform(0, 3600))
        ended = started + timedelta(seconds=draw.expovariate(0.2))
        model, provider = draw.choice(MODELS)
        prompt, completion = draw.randrange(5000), draw.randrange(2000)
        values = {
            "endTime": ended.replace(tzinfo=None),
            "model": model,
            "model_group": "",
            "custom_llm_provider": provider,
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "spend": prompt * 2.5e-6 + completion * 1e-5,
        }
        if draw.random() < 0.06:
            error = {"error_class": draw.choice(["RateLimitError", "Timeout"])}
            values |= {"status": "failure", "spend": 0.0, "completion_tokens": 0}
            values["metadata"] = {"status": "failure", "error_information": error}
        elif draw.random() < 0.1:
            values |= {"cache_hit": "True", "spend": 0.0, "request_id": f"{number}_cache_hit1.5"}
        is_away = OUTAGE[0] <= ended < OUTAGE[1]
        arrived = OUTAGE[1] + FLUSH if is_away else ended + FLUSH
        found.append((arrived, call(number, started.replace(tzinfo=None), **values)))
    return sorted(found, key=lambda each: each[0])


def test_a_month_of_late_flushes_equals_litellms_own_daily_sums(litellm, lake):
    """Twice a day is read; nine hours of an outage are found by the daily comparison."""
    waiting = calls()
    for start in (FIRST + number * 12 * HOUR for number in range(2 * DAYS + 1)):
        window = Window(start, start + 12 * HOUR)
        now = window.end + timedelta(seconds=5)
        arrived = [row for moment, row in waiting if moment <= now]
        waiting = waiting[len(arrived) :]
        litellm.insert("LiteLLM_SpendLogs", *arrived)
        extract_table(intake_of(TABLE), litellm.uri(), run := Run(f"scheduled {start}", window))
        publish(run)
        if start.hour == 0:
            daily = Run(f"daily {start}", Window(start - 21 * HOUR, start + 3 * HOUR), False)
            extract_late_rows(intake_of(TABLE), litellm.uri(), daily)
            publish(daily)
    assert waiting == []
    dbt(lake.parent, "build", "--exclude-resource-type", "unit_test")
    columns = "strftime(usage_date, '%Y-%m-%d'), model_id, sum(prompt_tokens)::bigint, "
    columns += "sum(completion_tokens)::bigint, sum(cost_usd)::double, sum(request_count)::bigint"
    gold = ask(
        "dev_gold.agg_usage_daily",
        f"select {columns}, sum(failed_count)::bigint from ({{}}) group by all order by all",
    )
    own = [(day, model or "unknown", *sums) for day, model, *sums in litellm.query(DAILY)]
    assert len({day for day, *_ in own}) in {DAYS, DAYS + 1}
    assert [row[:4] + row[5:] for row in gold] == sorted(row[:4] + row[5:] for row in own)
    costs = {row[:2]: row[4] for row in own}
    for row in gold:
        assert row[4] == pytest.approx(costs[row[:2]], abs=1e-9 * CALLS_A_DAY)
    for table in ("fct_evaluations", "fct_api_requests", "agg_technique_daily"):
        assert ask(f"dev_gold.{table}", "select count(*) from ({})") == [(0,)], "nothing fills it"
