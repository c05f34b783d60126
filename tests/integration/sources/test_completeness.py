"""Each source's own server or folder tells whether an hour is complete."""

import os
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from include.chimera.demo.metrics_server import MetricsServer
from include.chimera.demo.openmetrics import Family, Series, write_families
from include.chimera.errors import ConfigurationError, SourceUnavailableError
from include.chimera.sources.api_logs.log_files import hour_path, log_root
from include.chimera.sources.completeness import database_lacks, logs_lack, metrics_lack
from include.chimera.sources.prometheus.prometheus_api import PrometheusServer
from include.chimera.window import HOUR, floor_hour, hour_label
from tests.serving import served

pytestmark = pytest.mark.integration


def test_the_databases_own_clock_must_be_past_the_window(app_db) -> None:
    """Five seconds past it, because the safe bound lags that much behind the clock."""
    now = datetime.now(UTC)
    assert database_lacks(app_db, now - timedelta(seconds=6)) == ""
    for end in (now, now + HOUR):
        assert database_lacks(app_db, end).startswith(f"a clock at {now:%Y-%m-%dT%H:}")


@pytest.fixture
def log(tmp_path):
    """Return one file of the last full hour, last written at its end."""
    end = floor_hour(datetime.now(UTC)) - HOUR
    path = tmp_path / hour_path(end - HOUR) / "api.jsonl"
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path, (end.timestamp(), end.timestamp()))
    return tmp_path, end, path


def test_logs_are_complete_once_they_are_quiet(log) -> None:
    """Files that last grew at least half a minute ago, or an hour without files."""
    root, end, path = log
    assert logs_lack(log_root(str(root)), end) == ""
    os.utime(path)
    assert "1 files, quiet for 0 s" in logs_lack(log_root(str(root)), end)
    path.unlink()
    assert logs_lack(log_root(str(root)), end) == ""
    assert "0 files" in logs_lack(log_root(str(root)), datetime.now(UTC))


def test_logs_are_complete_once_their_writer_says_so(log) -> None:
    """Anything written later is a late line like any other."""
    root, end, path = log
    os.utime(path)
    (path.parent / "_SUCCESS").touch()
    assert logs_lack(log_root(str(root)), end) == ""


def test_an_hour_that_can_not_be_seen_is_not_complete(log) -> None:
    """A dangling link may be a disk that is not mounted, not an empty hour."""
    root, end, path = log
    path.with_name("gone.jsonl").symlink_to(path.with_name("nowhere"))
    with pytest.raises(SourceUnavailableError, match=r"gone\.jsonl"):
        logs_lack(log_root(str(root)), end)
    with pytest.raises(SourceUnavailableError, match="no-such-root"):
        logs_lack(log_root(str(root / "no-such-root")), end)
    with pytest.raises(ConfigurationError, match="CHIMERA_API_LOGS_ROOT"):
        log_root("gs://bucket/logs")


@contextmanager
def serving(folder, **ages):
    """Serve one series per provider, whose newest sample is so many seconds old."""
    now = time.time()
    series = [
        [
            Series(
                "llm_provider_up",
                (("provider", provider),),
                np.array([(now - age) * 1000], np.int64),
                np.array([1.0]),
            )
        ]
        for provider, age in ages.items()
    ]
    name = hour_label(datetime.fromtimestamp(now, UTC) - timedelta(minutes=10))
    content = write_families([Family("llm_provider_up", "gauge", "Up.", series)])
    # The samples may stand on either side of a full hour: both files hold all of them.
    for label in {name, hour_label(datetime.fromtimestamp(now, UTC))}:
        (folder / f"{label}.om").write_bytes(content)
    with served(MetricsServer(folder, 0)) as url:
        yield url


def test_every_live_series_must_have_a_sample_of_the_last_step(tmp_path) -> None:
    """A series that is five minutes behind is not live, so the sensor does not wait for it."""
    end = datetime.now(UTC) - timedelta(seconds=130)
    with serving(tmp_path, acme=20, boreas=180) as url:
        assert metrics_lack(PrometheusServer(url), end) == ""
    with serving(tmp_path, acme=20, boreas=250) as url:
        assert metrics_lack(PrometheusServer(url), end).startswith("a newest sample at 20")
    with serving(tmp_path, acme=20, boreas=310) as url:
        assert metrics_lack(PrometheusServer(url), end) == ""
    with serving(tmp_path) as url:
        assert metrics_lack(PrometheusServer(url), end) == ""


def test_metrics_are_not_complete_before_two_scrapes_are_over(tmp_path) -> None:
    """They are not even queried; a time before the window's end means a wrong clock."""
    with serving(tmp_path, acme=0) as url:
        asked = metrics_lack(PrometheusServer(url), datetime.now(UTC) - timedelta(seconds=30))
        assert asked == "two scrapes after the hour only in 90 s"
        with pytest.raises(SourceUnavailableError):
            metrics_lack(PrometheusServer(url), datetime.now(UTC) + HOUR)
