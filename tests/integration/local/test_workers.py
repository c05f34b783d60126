"""Celery's broker and workers are servers of a stack like all others."""

import shutil
import sys
import time

import psutil
import pytest
import redis

from include.chimera.errors import ConfigurationError
from include.chimera.local.layout import Layout
from include.chimera.local.runs.planning import plan_start
from include.chimera.local.servers.environment import build_environment, keep_secrets
from include.chimera.local.servers.postgres_server import Postgres
from include.chimera.local.supervision.processes import find_marked, sweep, wait_until
from include.chimera.local.supervision.supervisor import KeeperLine, StateLock
from include.chimera.local.workers.broker import broker_url, start_broker
from include.chimera.local.workers.celery_workers import worker_program
from include.chimera.settings import Settings

pytestmark = pytest.mark.integration
needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="there is no redis-server on this machine"
)
SECONDS = 420.0


@pytest.fixture
def layout(tmp_path):
    layout = Layout.of(tmp_path / "a state")
    layout.make_folders()
    yield layout
    sweep(layout, grace_seconds=1.0)


@pytest.fixture
def line(layout):
    lock = StateLock(layout)
    line = KeeperLine(layout, lock)
    yield line
    line.close()
    lock.release()


@pytest.fixture
def plan(layout):
    settings = Settings(workers=2, worker_concurrency=3)
    return plan_start(layout, settings, {"CHIMERA_WARM_START": "false"}, 600)


def said(layout, name, words, line):
    """Wait for words in a server's log."""
    log = layout.server_log(name)

    def is_there():
        line.check()
        return log.exists() and words in log.read_text(errors="replace")

    assert wait_until(is_there, SECONDS, 0.5), log.read_text()[-3000:]


@needs_redis
def test_broker_and_workers_end_with_their_keeper_however_it_ends(layout, line, plan) -> None:
    """The workers' pools too: their tasks would go on, and write."""
    Postgres(layout).start(line)
    secrets = keep_secrets(layout)
    start_broker(layout, line, plan.broker_port, secrets.broker_password)
    env = build_environment(plan, secrets, {"PATH": "/usr/bin:/bin"})
    for number in (1, 2):
        line.start(worker_program(layout, number, env))
    for number in (1, 2):
        said(layout, f"worker-{number}", " ready.", line)
    workers = [psutil.Process(line.pids[f"worker-{number}"]) for number in (1, 2)]
    assert all(len(worker.children()) >= plan.settings.worker_concurrency for worker in workers)
    marked = {process.pid for process in find_marked(layout)}
    if sys.platform == "linux":
        assert marked == {process.pid for process in line.processes()}
    psutil.Process(line.pid).kill()
    deadline = time.monotonic() + 30
    while left := find_marked(layout):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


@needs_redis
def test_the_broker_asks_for_its_password_and_keeps_its_queue(layout, line, plan) -> None:
    password = keep_secrets(layout).broker_password
    start_broker(layout, line, plan.broker_port, password)
    with (
        redis.Redis(port=plan.broker_port) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    with redis.Redis.from_url(broker_url(plan.broker_port, password)) as client:
        client.rpush("default", "a message")
    psutil.Process(line.pids["broker"]).terminate()
    line.wait("broker", 10)
    start_broker(layout, line, plan.broker_port, password)
    with redis.Redis.from_url(broker_url(plan.broker_port, password)) as client:
        assert client.lrange("default", 0, -1) == [b"a message"]
    listed = " ".join(" ".join(process.cmdline()) for process in line.processes())
    assert password not in listed


def test_a_machine_without_redis_is_told_what_to_install(layout, line, plan, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(layout.root))
    with pytest.raises(ConfigurationError, match="apt-get install redis-server"):
        start_broker(layout, line, plan.broker_port, "secret")
