"""Celery's broker: a Redis server of this stack alone.

It listens on loopback and asks for a password that is generated once per state folder. Its queue is
kept on disk, so a broker that was killed and started again has lost at most a second of messages;
Airflow queues their tasks again (`environment.NOTICE`).
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import redis

from include.chimera.errors import ConfigurationError
from include.chimera.local.private_files import make_private, write_private
from include.chimera.local.supervision.keeper import Program
from include.chimera.local.supervision.processes import wait_until
from include.chimera.local.supervision.supervisor import ServerDiedError

if TYPE_CHECKING:
    from include.chimera.local.layout import Layout
    from include.chimera.local.supervision.supervisor import KeeperLine

_START_SECONDS = 30.0


def broker_url(port: int, password: str) -> str:
    """Return the URL by which Celery reaches the broker."""
    return f"redis://:{password}@127.0.0.1:{port}/0"


def start_broker(layout: Layout, line: KeeperLine, port: int, password: str) -> None:
    """Start the broker and return when it answers.

    Raises:
        ConfigurationError: There is no `redis-server` on this machine.
        ServerDiedError: It did not come up; its log says why.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise ConfigurationError(
            expected="the program redis-server, Celery's broker",
            came="none",
            where="PATH",
            remedy="apt-get install redis-server, or leave CHIMERA_WORKERS unset",
        )
    make_private(layout.broker)
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "requirepass": password,
        "dir": f'"{layout.broker}"',
        "appendonly": "yes",
        "save": '""',
        # A title would overwrite the environment, by which the stack's processes are found.
        "set-proc-title": "no",
    }
    settings = layout.broker / "redis.conf"  # a file, since everybody can read a command line
    write_private(settings, "".join(f"{name} {value}\n" for name, value in options.items()))
    line.start(Program("broker", [program, str(settings)], {}, last=True))

    def answers() -> bool:
        line.check()
        try:
            with redis.Redis.from_url(broker_url(port, password)) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    if not wait_until(answers, _START_SECONDS):
        raise ServerDiedError(
            expected=f"Redis to answer within {_START_SECONDS:.0f} s",
            came="no answer",
            where=str(layout.server_log("broker")),
        )
