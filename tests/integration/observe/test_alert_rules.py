"""Check alert rules, dashboard and StatsD mapping against the code and with Prometheus' tool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import yaml

from include.chimera.observe.metrics import CATALOGUE
from include.chimera.paths import INCLUDE, PROJECT

MONITORING = INCLUDE / "monitoring"
RULES = MONITORING / "alerts.yml"
TESTS = ("alerts_test.yml", "durations_test.yml")
LATE = "chimera_runs_late_total"
WATCHED = " and on () chimera:watched"
METRIC = re.compile(r"\b(?:chimera|airflow)_\w+")


def mapped() -> set[str]:
    """Return the Airflow metrics that the mapping lets through, by trying each of its patterns."""
    names = set()
    for rule in yaml.safe_load((MONITORING / "statsd_mapping.yml").read_text())["mappings"]:
        groups = re.findall(r"\(([^)]*)\)", rule["match"])
        found = {rule["name"]}
        for number, group in enumerate(groups, start=1):
            found = {
                name.replace(f"${{{number}}}", word) for name in found for word in group.split("|")
            }
        names |= found
    return names


def rules() -> list[dict]:
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


def promtool(*arguments: str) -> str:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing: install Debian's package prometheus")
    done = subprocess.run(  # noqa: S603 - our own arguments
        ["promtool", *arguments],  # noqa: S607 - wherever the distribution put it
        cwd=MONITORING,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def known(expression: str) -> set[str]:
    """Return the names in an expression that nothing emits."""
    names = {re.sub(r"_(sum|count|bucket)$", "", name) for name in METRIC.findall(expression)}
    # `dag_id="chimera_…"` are values of labels.
    return names - set(CATALOGUE) - mapped() - {"chimera_etl_hourly", "chimera_"}


def test_rules_are_valid():
    promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "--syntax-only", "prometheus.yml")


def test_each_alert_fires_and_stays_silent_when_it_should():
    assert promtool("test", "rules", *TESTS).count("SUCCESS") == len(TESTS)


def test_each_alert_has_a_test_that_sees_it_fire():
    fired = {
        case["alertname"]
        for name in TESTS
        for test in yaml.safe_load((MONITORING / name).read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in rules() if "alert" in rule}


def test_the_mapping_is_written_as_go_reads_it():
    """The exporter does not start on a duration in days, and `$1_total` is an empty group to it."""
    text = (MONITORING / "statsd_mapping.yml").read_text()
    mapping = yaml.safe_load(text)
    for rule in (mapping["defaults"], *mapping["mappings"]):
        assert re.fullmatch(r"(\d+(ms|s|m|h))+", rule.get("ttl", "1h")), rule
        assert not re.search(r"\$(?!\{\d\})", rule.get("name", "")), rule


@pytest.mark.parametrize(
    ("old", "new", "alert"),
    [
        ("chimera_disk_free_ratio < 0.1", "chimera_disk_free_ratio < 0.04", "DiskFilling"),
        (WATCHED, "", "RunLate"),
        ("offset 15m == 1\n", "offset 15m\n", "RunLate"),
        (f"{LATE} unless {LATE} offset 15m{WATCHED}\n", "vector(0)\n", "RunLate"),
    ],
    ids=["threshold", "without Prometheus", "without the exporter", "first event"],
)
def test_a_rule_that_asks_wrongly_fails_its_test(tmp_path, old, new, alert):
    """The rules' tests notice what is moved or left out."""
    for name in ("alerts.yml", "alerts_test.yml"):
        shutil.copy(MONITORING / name, tmp_path)
    assert old in RULES.read_text()
    (tmp_path / "alerts.yml").write_text(RULES.read_text().replace(old, new))
    with pytest.raises(AssertionError, match=alert):
        promtool("test", "rules", str(tmp_path / "alerts_test.yml"))


def test_rules_and_dashboard_ask_only_for_metrics_that_are_emitted():
    panels = json.loads((MONITORING / "grafana" / "chimera.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    asked += [rule["expr"] for rule in rules()]
    assert not set().union(*map(known, asked))


def test_each_metric_of_ours_is_looked_at():
    """On a panel or in an alert; a metric that nobody sees is not worth its cost."""
    panels = json.loads((MONITORING / "grafana" / "chimera.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    asked += [rule["expr"] for rule in rules()]
    assert set(CATALOGUE) <= {name for expression in asked for name in METRIC.findall(expression)}


def test_panels_do_not_cover_each_other():
    panels = json.loads((MONITORING / "grafana" / "chimera.json").read_text())["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_each_alert_is_named_by_the_entry_of_the_runbook_that_it_leads_to():
    runbook = (PROJECT / "docs" / "runbook.md").read_text()
    entries = dict(re.findall(r"^### (.+)\n((?:(?!#).*\n)+)", runbook, re.MULTILINE))
    lost = [
        rule["alert"]
        for rule in rules()
        if "alert" in rule and f"`{rule['alert']}`" not in entries[rule["annotations"]["runbook"]]
    ]
    assert not lost
