"""Root in a closed folder and other users: each has its own servers, which no other can enter."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from include.chimera.local.layout import Layout
from include.chimera.local.servers import account, ports
from include.chimera.local.servers import postgres_server as postgres_module
from include.chimera.local.servers.ports import LOOPBACK, choose_port
from include.chimera.local.servers.postgres_server import APP_DATABASE, Postgres
from include.chimera.local.supervision import launch
from include.chimera.local.supervision.processes import find_marked, is_database, sweep
from include.chimera.local.supervision.supervisor import KeeperLine, StateLock
from include.chimera.paths import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="only root acts as other users"
    ),
]


@pytest.fixture(params=["state", "a state with spaces"])
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Layout]:
    """Return a state below a closed folder, like root's home."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    layout = Layout.of(home / request.param)
    yield layout
    sweep(layout, grace_seconds=1.0)


@contextlib.contextmanager
def server(layout: Layout) -> Iterator[Postgres]:
    """Run PostgreSQL on the state."""
    lock = StateLock(layout)
    layout.make_folders()
    line = KeeperLine(layout, lock)
    try:
        postgres = Postgres(layout)
        postgres.start(line)
        yield postgres
    finally:
        line.close()
        lock.release()


def succeeds_as(uid: int, attempt: Callable[[], object]) -> bool:
    """Does the attempt succeed in another user's process?"""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            attempt()
        except (OSError, psycopg.Error):
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def listed(folder: Path | str) -> list[Path]:
    """Enter a folder and look around."""
    return [*Path(folder).iterdir()]


def test_the_way_to_try_as_another_user_can_succeed() -> None:
    """Else the tests below could not fail."""
    assert succeeds_as(account.nobody(), lambda: listed("/"))


@pytest.mark.parametrize("programs_are_open", [True, False])
def test_root_in_a_closed_folder_runs_postgres_as_a_number_of_its_own(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, programs_are_open: bool
) -> None:
    """It is neither root nor `nobody`, no folder is opened for it, and nothing is left outside."""
    if programs_are_open and not postgres_module.is_open_to_all(account.binaries()):
        pytest.skip("nobody else may enter the folder of this checkout's programs")
    if not programs_are_open:
        monkeypatch.setattr(postgres_module, "is_open_to_all", lambda _: False)
    with server(layout) as postgres:
        outside = layout.outside
        assert (outside is None) == (programs_are_open and layout.has_short_name)
        owners = {
            number
            for process in find_marked(layout)
            if is_database(process, layout)
            for number in (*process.uids(), *process.gids())
        }
        assert len(owners) == 1
        assert owners < {*range(60706, 61184)}
        with psycopg.connect(postgres.uri(APP_DATABASE)) as connection:
            assert connection.execute("select 1").fetchall() == [(1,)]
    for folder in (layout.root.parent, layout.root, layout.postgres, layout.postgres_data):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    assert layout.outside is None
    assert outside is None or not outside.exists()


def test_no_other_user_gets_to_the_database_or_its_files(layout: Layout) -> None:
    """Neither `nobody`, nor another user, nor even a process with the server's own uid."""
    with server(layout) as postgres:
        number = layout.postgres_data.stat().st_uid
        for uid in (account.nobody(), 60000, number):
            assert not succeeds_as(uid, lambda: psycopg.connect(postgres.uri(APP_DATABASE)))
            assert not succeeds_as(uid, lambda: listed(layout.root))
        for uid in (account.nobody(), 60000):
            assert not succeeds_as(uid, lambda: listed(layout.socket_dir))
        with psycopg.connect(postgres.uri(APP_DATABASE)) as connection:
            rules = "select type, database, user_name, auth_method from pg_hba_file_rules"
            assert connection.execute(rules).fetchall() == [("local", ["all"], ["all"], "peer")]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("select pg_read_file('/etc/shadow')")


def test_a_cluster_of_nobody_that_let_in_anybody_is_taken_over(layout: Layout) -> None:
    """The rows stay; the older version's owner and access rule are replaced."""
    with (
        server(layout) as postgres,
        psycopg.connect(postgres.uri(APP_DATABASE), autocommit=True) as connection,
    ):
        connection.execute("create table kept as select 1 as n")
    account.hand_over(layout.postgres_data, account.nobody())
    (layout.postgres_data / "pg_hba.conf").write_text("local all all trust\n")
    with server(layout) as postgres:
        owners = {path.lstat().st_uid for path in layout.postgres_data.rglob("*")}
        assert len(owners) == 1
        assert account.nobody() not in owners
        with psycopg.connect(postgres.uri(APP_DATABASE)) as connection:
            assert connection.execute("select n from kept").fetchall() == [(1,)]
            rules = "select distinct auth_method from pg_hba_file_rules"
            assert connection.execute(rules).fetchall() == [("peer",)]


@pytest.mark.parametrize(("options", "is_seen"), [([], True), (["--shielded"], False)])
def test_what_runs_as_nobody_for_a_moment_can_be_shielded_from_others(
    tmp_path: Path, options: list[str], is_seen: bool
) -> None:
    """Nor can initdb's folder be reached through the process."""
    folder = tmp_path / "closed"
    folder.mkdir()
    uid = account.nobody()
    account.hand_over(folder, uid)
    command = [sys.executable, "-I", "-S", launch.__file__, "--user", str(uid), *options, "--"]
    with subprocess.Popen([*command, "sleep", "60"], cwd=folder) as process:  # noqa: S603  # ours
        try:
            deadline = time.monotonic() + 10
            while (
                Path(f"/proc/{process.pid}/exe").readlink().name
                == Path(sys.executable).resolve().name
            ):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert succeeds_as(uid, lambda: listed(f"/proc/{process.pid}/cwd")) == is_seen
        finally:
            process.kill()


def test_a_second_user_finds_a_port_beside_root_and_the_same_one_after_it() -> None:
    """A port that root claims is given to nobody else; after root's process ends it is free."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    claim = f"from {ports.__name__} import choose_port as c; assert c({port}) == {port}"
    command = [sys.executable, "-c", f"{claim}; print(flush=True); input()"]
    with subprocess.Popen(  # noqa: S603  # our own code
        command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as root:
        assert root.stdout is not None
        assert root.stdout.readline()

        def choose(expected: bool) -> None:
            if (choose_port(port) == port) is not expected:
                raise PermissionError

        assert succeeds_as(account.nobody(), lambda: choose(expected=False))
        root.communicate(b"\n")
    assert succeeds_as(account.nobody(), lambda: choose(expected=True))
