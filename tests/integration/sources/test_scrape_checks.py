"""What doctor says of a real Prometheus: login, clock, metrics, scrapes, how far back."""

import time
from contextlib import contextmanager

import pytest

from include.chimera.profiles.metric_maps import METRICS
from include.chimera.settings import get_settings
from include.chimera.sources.prometheus.prometheus_api import PrometheusServer
from include.chimera.sources.prometheus.scrape_checks import check_prometheus
from tests.integration.prometheus import needs_prometheus, prometheus

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake"), needs_prometheus]


@contextmanager
def looked_at(workspace, hours, names=METRICS, interval=60):
    """Fill a server with so many hours until now, and yield each finding by its check."""
    end = int(time.time()) - 1
    moments = range(end - hours * 3600, end + 1, interval)
    lines = [f"{name} 1 {moment}" for name in names for moment in moments]
    (workspace / "metrics").mkdir()
    (workspace / "metrics" / "all.om").write_text("\n".join([*lines, "# EOF", ""]))
    with prometheus(workspace / "metrics", workspace) as url:
        yield {each.check: each for each in check_prometheus(PrometheusServer(url))}


def test_a_server_with_all_that_an_hour_needs_lacks_nothing(tmp_path) -> None:
    with looked_at(tmp_path, hours=30) as found:
        assert all(each.is_kept for each in found.values()), found
        assert "7 metrics" in found["prometheus: metrics"].text
        assert found["prometheus: scrapes"].text == "every 60 s, read every 60 s"
        assert found["prometheus: history"].text.startswith("samples of 1 day, 0:00:00 ago")


def test_missing_metrics_rare_scrapes_and_a_short_history_are_named(tmp_path) -> None:
    with looked_at(tmp_path, hours=0, names=METRICS[:5], interval=120) as found:
        assert not found["prometheus: scrapes"].is_kept  # one sample: no interval is seen
        assert not found["prometheus: history"].is_kept
        assert f"no series of {METRICS[5]}, {METRICS[6]}" in found["prometheus: metrics"].text


def test_a_step_shorter_than_the_scrapes_is_mended_by_a_setting(tmp_path) -> None:
    with looked_at(tmp_path, hours=2, interval=120) as found:
        assert found["prometheus: scrapes"].remedy == "CHIMERA_SCRAPE_STEP_SECONDS=120"
        assert get_settings().scrape_step_seconds == 60


def test_a_server_that_is_away_ends_the_checks() -> None:
    (finding,) = check_prometheus(PrometheusServer("http://127.0.0.1:9"))
    assert not finding.is_kept
    assert finding.remedy
