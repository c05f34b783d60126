"""Charts say what they leave out, and never draw what is unknown as zero."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from include.chimera.operations.insight import charts
from include.chimera.operations.insight.page import cell, change, heading


def usage(day, provider, cost=None, requests=1, **more):
    return {
        "usage_date": date(2026, 1, day), "provider_id": provider, "model_id": f"{provider}/m",
        "cost_usd": cost, "request_count": requests, **more,
    }  # fmt: skip


def values(figure):
    return figure.spec["data"]["values"]


def test_a_cost_that_nobody_reported_is_no_bar():
    (figure,) = charts.cost([usage(1, "a", Decimal("1.5")), usage(1, "b", None, 7)])
    assert [row["cost_usd"] for row in values(figure)] == [1.5]
    assert figure.note == "7 requests, of models without a cost, are in no bar. "
    assert charts.cost([usage(1, "a")]) == []


def test_a_day_without_rows_is_named_and_not_zero():
    (figure,) = charts.cost([usage(1, "a", Decimal(1)), usage(4, "a", Decimal(1))])
    assert figure.note == "No rows of 2026-01-02, 2026-01-03: not zero, but unknown."


def test_more_providers_than_colours_are_one_bar_together():
    rows = [usage(1, f"p{n}", Decimal(n + 1), n + 1) for n in range(11)]
    (figure,) = charts.cost(rows)
    domain = figure.spec["encoding"]["color"]["scale"]["domain"]
    assert len(domain) == charts.SERIES
    assert domain[-1] == charts.OTHERS
    assert sum(row["cost_usd"] for row in values(figure)) == sum(range(1, 12))
    assert {row["series"] for row in values(figure)} == set(domain)


def test_a_provider_has_one_colour_in_all_charts():
    rows = [
        usage(1, name, cost, requests, succeeded_count=1, filtered_count=0, failed_count=0,
              success_ratio=1.0)
        for name, cost, requests in (("a", None, 5), ("b", Decimal(9), 1), ("c", Decimal(1), 3))
    ]  # fmt: skip
    (cost,), (_, share) = charts.cost(rows), charts.requests(rows)
    scales = [figure.spec["encoding"]["color"]["scale"] for figure in (cost, share)]
    assert scales[0] == scales[1]


def hourly(hour, model="a/m", p50=100.0):
    return {
        "hour_started_at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour),
        "provider_id": model[0], "model_id": model, "request_count": 1, "p50_latency_ms": p50,
        "p95_latency_ms": 2 * p50, "p99_latency_ms": 3 * p50,
    }  # fmt: skip


def test_a_line_breaks_where_an_hour_is_missing():
    (figure,) = charts.latency([hourly(4), hourly(0), hourly(1)])
    found = [(row["hour_started_at"][11:13], row.get("p50_latency_ms")) for row in values(figure)]
    assert found == [("00", 100), ("01", 100), ("02", None), ("04", 100)]


def test_the_same_model_of_two_providers_has_two_charts():
    rows = [hourly(0), hourly(0) | {"provider_id": "b"}]
    assert [figure.title for figure in charts.latency(rows)] == ["a/m", "b · a/m"]


def test_charts_that_are_left_out_are_counted():
    figures = charts.latency([hourly(0, f"a/{n}") for n in range(charts.FIGURES + 3)])
    assert len(figures) == charts.FIGURES
    assert figures[-1].note == "3 more are not drawn: see the query."


def attack(technique, upper, trials=4, model="a/m"):
    return {
        "technique": technique, "framework": "garak", "model_id": model, "trial_count": trials,
        "attack_success_ratio": upper / 2, "attack_success_lower_ratio": 0.0,
        "attack_success_upper_ratio": upper, "week_date": date(2026, 1, 5),
    }  # fmt: skip


def test_an_attacks_interval_is_drawn_from_bound_to_bound():
    (figure,) = charts.attacks([attack("tap", 0.25), attack("gcg", 0.75)])
    rule, point = figure.spec["layer"]
    assert rule["encoding"]["x"]["field"] == "attack_success_lower_ratio"
    assert rule["encoding"]["x2"]["field"] == "attack_success_upper_ratio"
    assert point["encoding"]["x"]["field"] == "attack_success_ratio"
    assert figure.spec["encoding"]["y"]["sort"] == ["tap · garak", "gcg · garak"]
    assert [row["attack_success_upper_ratio"] for row in values(figure)] == [0.25, 0.75]


def test_models_beyond_the_colours_are_counted():
    rows = [attack("tap", 0.5, model=f"a/{n}") for n in range(charts.SERIES + 2)]
    (figure,) = charts.attacks_by_week(rows)
    assert figure.note == "2 more models are not drawn: see the query."


@pytest.mark.parametrize(
    ("value", "column", "shown"),
    [
        (None, "cost_usd", "\N{EN DASH}"),
        (None, "model_id", "all"),
        (Decimal("0.00042"), "cost_usd", "0.0004"),
        (Decimal("0.000000042"), "cost_usd", "4.2e-8"),
        (Decimal("1234.5"), "cost_usd", "1,234.50"),
        (0.98765, "success_ratio_now", "98.8%"),
        (1234.6, "p95_latency_ms", "1,235"),
        (12345, "request_count", "12,345"),
        (datetime(2026, 1, 1, 9, tzinfo=UTC), "hour_started_at", "2026-01-01 09:00"),
        (date(2026, 1, 1), "usage_date", "2026-01-01"),
        ("<b>", "technique", "<b>"),
    ],
)
def test_a_cell_shows_its_unit_and_never_an_unknown_as_zero(value, column, shown):
    assert cell(value, column) == shown


def test_a_heading_has_the_unit():
    assert heading("cost_usd_before") == "cost before, USD"
    assert heading("p50_ttft_ms") == "p50 ttft, ms"
    assert heading("unpriced_request_count") == "unpriced requests"


def test_a_change_needs_two_weeks():
    assert change(Decimal(3), Decimal(2)) == "+50.0%"
    assert change(Decimal(3), None) == change(None, Decimal(3)) == change(Decimal(3), 0) == ""
