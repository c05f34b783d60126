"""A UNIX socket needs a short, plain path, wherever the project is."""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.chimera.errors import ConfigurationError
from include.chimera.local import private_files
from include.chimera.local.layout import Layout


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Return a short path: pytest's own are too long for a socket when rings run in parallel."""
    with tempfile.TemporaryDirectory(prefix="chimera-") as folder:
        yield Path(folder)


def odd_state(tmp_path: Path) -> Layout:
    """Return a state folder whose path is unfit for a socket."""
    layout = Layout.of(tmp_path / "with space")
    layout.make_folders()
    return layout


def test_socket_stays_in_a_short_plain_state_folder() -> None:
    """Only its owner can enter the data folder, so it is the best place."""
    layout = Layout(Path("/srv/chimera/.chimera"))
    assert layout.socket_dir == layout.postgres_data


@pytest.mark.parametrize("root", ["/srv/" + "deep/" * 20, "/srv/with space", "/srv/$HOME", "/ü"])
def test_socket_of_a_long_or_odd_folder_is_outside_while_servers_run(root: str) -> None:
    """Without servers there is no socket, which is an error."""
    with pytest.raises(ConfigurationError, match="make up"):
        _ = Layout(Path(root)).socket_dir


def test_the_folder_outside_has_another_name_each_time_and_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that can't be guessed can't be planted; the previous folder is removed."""
    place = tmp_path / "t"
    place.mkdir()
    monkeypatch.setattr(private_files, "_PLACES", (str(tmp_path / "absent"), str(place)))
    layout = odd_state(tmp_path)
    first = layout.make_outside(lambda _: True)
    assert first.parent == place
    assert stat.S_IMODE(first.stat().st_mode) == 0o700
    assert Layout.of(layout.root).socket_dir == first / "socket"
    second = layout.make_outside(lambda _: True)
    assert second != first
    assert list(place.iterdir()) == [second]
    layout.remove_outside()
    layout.remove_outside()
    assert list(place.iterdir()) == []
    assert layout.outside is None


def test_a_folder_that_is_a_link_now_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart of the machine, another user may have taken the name in /tmp."""
    monkeypatch.setattr(private_files, "_PLACES", (str(tmp_path),))
    layout = odd_state(tmp_path)
    outside = layout.make_outside(lambda _: True)
    outside.rmdir()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    outside.symlink_to(precious)
    layout.remove_outside()
    assert (precious / "file").exists()
    assert layout.outside is None


def test_no_place_lists_every_one_looked_at(tmp_path: Path) -> None:
    """The person who fixes it needs to know where to look."""
    layout = odd_state(tmp_path)
    with pytest.raises(ConfigurationError, match=r"/var/lib, .*/var/tmp"):
        layout.make_outside(lambda _: False)
    assert layout.outside is None


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o700])
def test_the_state_is_its_owners_alone_even_an_older_one(tmp_path: Path, mode: int) -> None:
    """It holds the lake, payloads and task logs."""
    layout = Layout.of(tmp_path / "state")
    layout.root.mkdir()
    layout.root.chmod(mode)
    layout.make_folders()
    for folder in (layout.root, layout.logs, layout.airflow, layout.postgres):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700, "pytest's own"


def test_a_state_of_another_user_is_refused(tmp_path: Path) -> None:
    """Files of two owners in one state folder would stop both."""
    if os.geteuid() != 0:
        pytest.skip("only root gives folders away")
    layout = Layout.of(tmp_path / "state")
    layout.root.mkdir()
    os.chown(layout.root, 60000, 60000)
    with pytest.raises(ConfigurationError, match="one of user 60000"):
        layout.make_folders()
