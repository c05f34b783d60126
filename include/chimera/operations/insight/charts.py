"""Vega-Lite charts of rows: pure functions from rows to the specification that the page draws.

Colours are the page's CSS variables, so that one drawing serves light and dark. What is left out of
a chart, because a phone could not show it, is said in the figure's note; tables have it all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from include.chimera.window import HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Row = dict[str, Any]  # a row of a query, by column
Spec = dict[str, Any]  # a Vega-Lite specification, or a part of one
SERIES, FIGURES, LINES = 8, 12, 30  # colours of a chart, charts of a topic, rows of a chart
OTHERS = "all others"
_STEP = 18  # height of a row, in pixels
_PERCENT = {"format": ".0%"}
_LEGEND = {"orient": "bottom", "title": None, "columns": 3, "labelLimit": 110}
_DAY: Spec = {"field": "usage_date", "type": "temporal", "timeUnit": "utcyearmonthdate"}
_HOUR: Spec = {
    "field": "hour_started_at",
    "type": "temporal",
    "timeUnit": "utcyearmonthdatehours",
}
_AXES: dict[str, Spec] = {
    "usage_date": {"format": "%d %b", "tickCount": {"interval": "day", "step": 1}},
    "hour_started_at": {"format": "%d %b %H:%M"},
}
_OUTCOMES = {
    "succeeded": "var(--good)",
    "filtered": "var(--fair)",
    "failed": "var(--bad)",
}


@dataclass(frozen=True)
class Figure:
    """A chart: its heading ("" if the topic's is enough), what it draws, what it leaves out."""

    title: str
    spec: Spec
    note: str = ""


def plain(value: object) -> object:
    """Return a value of a row as JSON has it; times keep their UTC offset."""
    if isinstance(value, Decimal | float):
        return float(f"{value:.6g}")  # finer than a pixel
    return value.isoformat() if isinstance(value, date) else value


def largest(rows: Iterable[Row], name: str, value: str) -> list[str]:
    """Return the names in a column, that with the largest sum of another column first."""
    sums: dict[str, float] = {}
    for row in rows:
        sums[row[name]] = sums.get(row[name], 0) + float(row[value] or 0)
    return sorted(sums, key=lambda each: (-sums[each], each))


def cost(rows: Sequence[Row]) -> list[Figure]:
    """Draw each day's cost as a bar of its providers and, within them, models."""
    unpriced = sum(row["request_count"] for row in rows if row["cost_usd"] is None)
    shown = _providers(rows)
    if len({row["provider_id"] for row in rows}) > SERIES:
        shown = [*shown[:-1], OTHERS]
    drawn = []
    for row in rows:
        if row["cost_usd"] is not None:
            name = row["provider_id"] if row["provider_id"] in shown else OTHERS
            drawn.append(row | {"series": name, "rank": shown.index(name)})
    if not drawn:
        return []
    encoding = {
        "x": _on_axis(_DAY),
        "y": {"field": "cost_usd", "type": "quantitative", "title": "US dollars"},
        "color": {"field": "series", "scale": _palette(shown), "legend": _LEGEND},
        "detail": {"field": "model_id"},
        "order": {"field": "rank", "type": "quantitative"},
        "tooltip": [
            _DAY | {"title": "day"},
            _tip("provider_id"),
            _tip("model_id"),
            _tip("cost_usd", ",.4~f"),
        ],
    }
    note = f"{unpriced:,} requests, of models without a cost, are in no bar. " if unpriced else ""
    return [Figure("", _spec(drawn, _bars(encoding)), note + _absent_days(rows))]


def requests(rows: Sequence[Row]) -> list[Figure]:
    """Draw each day's requests by outcome, and the share that succeeded by provider."""
    outcomes: list[Spec] = [
        {"fold": [f"{name}_count" for name in _OUTCOMES], "as": ["outcome", "requests"]},
        {"calculate": "replace(datum.outcome, '_count', '')", "as": "outcome"},
    ]
    encoding = {
        "x": _on_axis(_DAY),
        "y": _total("requests"),
        "color": {
            "field": "outcome",
            "scale": {"domain": list(_OUTCOMES), "range": list(_OUTCOMES.values())},
            "legend": _LEGEND,
        },
        "tooltip": [
            _DAY | {"title": "day"},
            {"field": "outcome", "type": "nominal"},
            _total("requests") | {"format": ","},
        ],
    }
    shown = _providers(rows)
    points = [
        row | {"series": row["provider_id"]}
        for row in _with_gaps(rows, "usage_date", timedelta(1))
        if row["provider_id"] in shown
    ]
    share = {"field": "success_ratio", "title": "succeeded", "axis": _PERCENT}
    lines = _lines(_DAY, share | {"scale": {"zero": False}}, shown, ".2%")
    return [
        Figure("By outcome", _spec(rows, _bars(encoding, *outcomes)), _absent_days(rows)),
        Figure("Share that succeeded", _spec(points, lines), _left_out(rows, "provider_id", shown)),
    ]


def availability(rows: Sequence[Row]) -> list[Figure]:
    """Draw a strip of days for each model, the least available first."""
    named = [
        row | {"name": _model(row), "lost_ratio": 1 - row["availability_ratio"]} for row in rows
    ]
    models = largest(named, "name", "lost_ratio")[:LINES]
    encoding = {
        "x": _on_axis(_DAY),
        "y": {"field": "name", "sort": models, "title": None, "axis": {"labelLimit": 130}},
        "color": {
            "field": "availability_ratio",
            "type": "quantitative",
            "scale": {
                "type": "threshold",
                "domain": [0.95, 0.99, 0.999],
                "range": ["var(--bad)", "var(--poor)", "var(--fair)", "var(--good)"],
            },
            "legend": {"orient": "bottom", "title": None, "format": ".1%"},
        },
        "tooltip": [
            _DAY | {"title": "day"},
            _tip("provider_id"),
            _tip("model_id"),
            _tip("availability_ratio", ".3%"),
        ],
    }
    drawn = [row for row in named if row["name"] in models]
    mark = {"type": "rect", "stroke": "var(--card)"}
    spec = _spec(drawn, {"mark": mark, "encoding": encoding}, _STEP * len(models))
    return [Figure("", spec, _left_out(named, "name", models))]


def latency(rows: Sequence[Row]) -> list[Figure]:
    """Draw the percentiles' lines of each model, those most asked first."""
    named = [row | {"name": _model(row)} for row in rows]
    models = largest(named, "name", "request_count")
    percentiles = {"p50_latency_ms": "median", "p95_latency_ms": "p95", "p99_latency_ms": "p99"}
    figures = []
    folded = [
        {"fold": list(percentiles), "as": ["column", "milliseconds"]},
        {"calculate": f"{json.dumps(percentiles)}[datum.column]", "as": "series"},
    ]
    drawn = _lines(_HOUR, {"field": "milliseconds"}, list(percentiles.values()), ",.0f")
    for model in models[:FIGURES]:
        own = [row for row in named if row["name"] == model]
        points = _with_gaps(own, "hour_started_at", HOUR)
        figures.append(Figure(model, _spec(points, drawn | {"transform": folded})))
    return _noted(figures, models)


def tokens(rows: Sequence[Row]) -> list[Figure]:
    """Draw each day's tokens of prompts and completions."""
    if all(row["prompt_tokens"] is None and row["completion_tokens"] is None for row in rows):
        return []
    encoding = {
        "x": _on_axis(_DAY),
        "y": _total("tokens"),
        "color": {"field": "kind", "scale": _palette(["prompt", "completion"]), "legend": _LEGEND},
        "tooltip": [
            _DAY | {"title": "day"},
            {"field": "kind", "type": "nominal"},
            _total("tokens") | {"format": ","},
        ],
    }
    split: list[Spec] = [
        {"fold": ["prompt_tokens", "completion_tokens"], "as": ["kind", "tokens"]},
        {"calculate": "replace(datum.kind, '_tokens', '')", "as": "kind"},
    ]
    uncounted = sum(row["uncounted_request_count"] for row in rows)
    note = (
        f"{uncounted:,} requests, of models without a count, are in no bar. " if uncounted else ""
    )
    return [Figure("", _spec(rows, _bars(encoding, *split)), note + _absent_days(rows))]


def hours(rows: Sequence[Row]) -> list[Figure]:
    """Draw each hour's requests by provider."""
    shown = _providers(rows)
    points = [
        row | {"series": row["provider_id"]}
        for row in _with_gaps(rows, "hour_started_at", HOUR)
        if row["provider_id"] in shown
    ]
    lines = _lines(_HOUR, {"field": "request_count", "title": "requests"}, shown, ",")
    return [Figure("", _spec(points, lines), _left_out(rows, "provider_id", shown))]


def attacks(rows: Sequence[Row]) -> list[Figure]:
    """Draw each model's techniques with their intervals, the most resisted first."""
    models = largest(rows, "model_id", "trial_count")
    figures = []
    for model in models[:FIGURES]:
        own = [row for row in rows if row["model_id"] == model]
        drawn = [row | {"label": f"{row['technique']} · {row['framework']}"} for row in own[:LINES]]
        place = {
            "field": "label",
            "sort": [row["label"] for row in drawn],
            "title": None,
            "axis": {"labelLimit": 150},
        }
        spec = _spec(drawn, _intervals(place, _rate_axis("x")), _STEP * len(drawn))
        left = len(own) - len(drawn)
        figures.append(
            Figure(model, spec, f"{left} more techniques: see the query." if left else "")
        )
    return _noted(figures, models)


def attacks_by_week(rows: Sequence[Row]) -> list[Figure]:
    """Draw each technique's weeks, with an interval for each model."""
    techniques = largest(rows, "technique", "trial_count")
    models = largest(rows, "model_id", "trial_count")[:SERIES]
    figures = []
    for technique in techniques[:FIGURES]:
        own = [row for row in rows if row["technique"] == technique]
        drawn = [row for row in own if row["model_id"] in models]
        week = {
            "field": "week_date",
            "type": "ordinal",
            "timeUnit": "utcyearmonthdate",
            "title": "week from",
            "axis": {"format": "%d %b", "labelAngle": 0, "labelOverlap": True},
        }
        spec = _spec(drawn, _intervals(week, _rate_axis("y"), models))
        figures.append(Figure(technique, spec, _left_out(own, "model_id", models)))
    return _noted(figures, techniques)


def _spec(rows: Iterable[Row], drawn: Spec, height: int = 200) -> Spec:
    """Return a specification with the values of the rows that it names, and no others."""
    named = set(_fields(drawn))
    values = [{name: plain(value) for name, value in row.items() if name in named} for row in rows]
    return {
        "data": {"values": values},
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        **drawn,
    }


def _fields(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        yield from (part[name] for name in ("field",) if name in part)
        yield from part.get("fold", ())
    if isinstance(part, dict | list):
        for each in part.values() if isinstance(part, dict) else part:
            yield from _fields(each)


def _bars(encoding: Spec, *transform: Spec) -> Spec:
    mark = {"type": "bar", "stroke": "var(--card)", "strokeWidth": 0.5}
    return {"mark": mark, "encoding": encoding, "transform": list(transform)}


def _lines(x: Spec, y: Spec, domain: list[str], form: str) -> Spec:
    encoding = {
        "x": _on_axis(x),
        "y": {"type": "quantitative", **y},
        "color": {"field": "series", "scale": _palette(domain), "legend": _LEGEND},
        "tooltip": [
            x | {"title": "hour" if "hour" in x["field"] else "day"},
            {"field": "series", "type": "nominal", "title": " "},
            {"type": "quantitative", **_without(y, "axis", "scale"), "format": form},
        ],
    }
    return {
        "mark": {"type": "line", "point": {"size": 14}, "strokeWidth": 1.5},
        "encoding": encoding,
        "config": {"mark": {"invalid": "break-paths-show-domains"}},
    }


def _intervals(place: Spec, rate: Spec, models: Sequence[str] = ()) -> Spec:
    """Return layers: a rule from the lower to the upper bound, and a point at the rate.

    Args:
        place: Where a row stands.
        rate: The axis of rates, with its channel's name as `channel`.
        models: Models side by side in a place, each in its colour; none: one row a place.
    """
    channel = rate["channel"]
    other = "y" if channel == "x" else "x"
    axis = _without(rate, "channel")
    shared: Spec = {other: place, "tooltip": _RATE_TIPS}
    if models:
        shared[f"{other}Offset"] = {"field": "model_id", "sort": list(models)}
        shared["color"] = {"field": "model_id", "scale": _palette(models), "legend": _LEGEND}
    bounds = {
        channel: axis | {"field": "attack_success_lower_ratio"},
        f"{channel}2": {"field": "attack_success_upper_ratio"},
    }
    point = {channel: axis | {"field": "attack_success_ratio"}}
    colour = {} if models else {"color": "var(--c1)"}
    return {
        "encoding": shared,
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.6, **colour},
                "encoding": bounds,
            },
            {"mark": {"type": "point", "filled": True, "size": 45, **colour}, "encoding": point},
        ],
    }


def _on_axis(time: Spec) -> Spec:
    return time | {"title": None, "axis": _AXES[time["field"]]}


def _total(field: str) -> Spec:
    return {"field": field, "type": "quantitative", "aggregate": "sum", "title": field}


def _rate_axis(channel: str) -> Spec:
    return {
        "channel": channel,
        "type": "quantitative",
        "title": "attack success",
        "axis": _PERCENT,
        "scale": {"domain": [0, 1]},
    }


def _tip(field: str, form: str = "") -> Spec:
    title = field.removesuffix("_id").replace("_ratio", "").replace("_", " ")
    kind = {"type": "quantitative", "format": form} if form else {"type": "nominal"}
    return {"field": field, "title": title, **kind}


_RATE_TIPS = [
    _tip("technique"),
    _tip("model_id"),
    _tip("attack_success_ratio", ".1%"),
    _tip("attack_success_lower_ratio", ".1%"),
    _tip("attack_success_upper_ratio", ".1%"),
    _tip("trial_count", ","),
]


def _palette(domain: Sequence[str]) -> Spec:
    colours = [f"var(--c{number + 1})" for number in range(min(len(domain), SERIES))]
    return {"domain": list(domain)[:SERIES], "range": colours}


def _model(row: Row) -> str:
    """Return a model's name, with its provider's unless it begins with that."""
    provider, model = row["provider_id"], row["model_id"]
    return str(model) if model.startswith(f"{provider}/") else f"{provider} · {model}"


def _providers(rows: Iterable[Row]) -> list[str]:
    """Return the providers with colours: in all charts the same, unless there are too many."""
    return sorted(largest(rows, "provider_id", "request_count")[:SERIES])


def _with_gaps(rows: Sequence[Row], time: str, step: timedelta) -> list[Row]:
    """Return the rows by provider and time, with an empty one wherever a line has to break."""
    name = "provider_id"
    found = sorted(rows, key=lambda row: (str(row[name]), row[time]))
    filled: list[Row] = []
    for row in found:
        last = filled[-1] if filled else None
        if last is not None and last[name] == row[name] and row[time] - last[time] > step:
            filled.append({name: row[name], time: last[time] + step})
        filled.append(row)
    return filled


def _absent_days(rows: Sequence[Row]) -> str:
    """Return a sentence about the days between the first and the last that have no rows."""
    days = {row["usage_date"] for row in rows}
    first, last = min(days), max(days)
    absent = [
        f"{first + timedelta(number):%Y-%m-%d}"
        for number in range((last - first).days)
        if first + timedelta(number) not in days
    ]
    return f"No rows of {', '.join(absent)}: not zero, but unknown." if absent else ""


def _left_out(rows: Iterable[Row], name: str, shown: Sequence[str]) -> str:
    left = len({row[name] for row in rows} - set(shown))
    kind = {"name": "model"}.get(name, name.removesuffix("_id"))
    return f"{left} more {kind}s are not drawn: see the query." if left else ""


def _noted(figures: list[Figure], names: Sequence[str]) -> list[Figure]:
    """Say on the last of the figures how many are left out."""
    left = len(names) - len(figures)
    if left:
        last = figures[-1]
        note = f"{last.note} {left} more are not drawn: see the query.".strip()
        figures[-1] = Figure(last.title, last.spec, note)
    return figures


def _without(spec: Mapping[str, Any], *names: str) -> Spec:
    return {name: value for name, value in spec.items() if name not in names}
