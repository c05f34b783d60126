"""The pages that runs write for readers, in Airflow's UI and behind its login."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

from include.chimera.flow.health_page.routes import MAY_SEE, app
from include.chimera.lake.store import storage
from include.chimera.operations.insight.page import insight_place
from include.chimera.operations.quality_report import report_place
from include.chimera.settings import get_settings
from plugins.health_page import HealthPagePlugin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATHS = {"/insight": insight_place, "/quality.html": report_place}


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the process a lake of its own."""
    monkeypatch.setenv("CHIMERA_STATE_DIR", str(tmp_path))
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture
def signed_in() -> Iterator[TestClient]:
    """Return a client that may see the hourly DAG."""
    app.dependency_overrides[MAY_SEE.dependency] = lambda: None
    yield TestClient(app)
    app.dependency_overrides.clear()


@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_shown_as_the_newest_run_wrote_it(signed_in: TestClient, path: str) -> None:
    assert signed_in.get(path).status_code == 404
    assert "No run has written" in signed_in.get(path).text
    storage.write_text(PATHS[path](), "<p>the newest")
    answer = signed_in.get(path)
    assert (answer.status_code, answer.text) == (200, "<p>the newest")
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("path", PATHS)
def test_nobody_sees_a_page_without_a_login(path: str) -> None:
    storage.write_text(PATHS[path](), "<p>the newest")
    assert TestClient(app).get(path).status_code == 401


def test_the_navigation_names_the_insight_page() -> None:
    (view,) = [view for view in HealthPagePlugin.external_views if view["name"] == "Insight"]
    assert (view["destination"], view["href"]) == ("nav", "/chimera/insight")
