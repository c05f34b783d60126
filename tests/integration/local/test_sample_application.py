"""The sample application keeps out of the caller's own sources."""

from datetime import UTC, datetime, timedelta

import pytest

from include.chimera.local.layout import Layout
from include.chimera.local.runs.planning import plan_start
from include.chimera.local.servers.sample_application import demo_sample
from include.chimera.settings import Settings
from include.chimera.window import Window, floor_hour

pytestmark = pytest.mark.integration


def test_no_made_up_line_gets_among_the_callers_logs(app_db, tmp_path) -> None:
    own, state = tmp_path / "own", tmp_path / "state"
    settings = Settings(state_dir=state, api_logs_root=str(own), rows_per_hour=1000)
    hour = Window.of_hour(floor_hour(datetime.now(UTC)) - timedelta(hours=2))
    plan = plan_start(Layout.of(state), settings, {}, reparse_seconds=30)
    demo_sample(settings, [hour], plan, lambda _: None).seed(app_db)
    assert list((state / "sources" / "api_logs").rglob("api.jsonl"))
    assert not own.exists()
