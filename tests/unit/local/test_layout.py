"""A UNIX socket needs a short, plain folder, wherever the project stands."""

import tempfile
from pathlib import Path

import pytest

from include.chimera.errors import ConfigurationError
from include.chimera.local.layout import Layout


def test_socket_stays_in_a_short_plain_state_folder():
    layout = Layout(Path("/srv/chimera/.chimera"))
    assert layout.socket_dir == layout.postgres / "socket"


@pytest.mark.parametrize("root", ["/srv/" + "deep/" * 20, "/srv/with space", "/srv/$HOME", "/ü"])
def test_socket_moves_out_of_a_long_or_odd_folder(root, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/short")
    folder = Layout(Path(root)).socket_dir
    assert folder.parent == Path("/short")
    assert folder != Layout(Path(root + "2")).socket_dir


def test_socket_survives_a_long_temporary_folder(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/var/" + "x" * 90)
    assert Layout(Path("/with space")).socket_dir.parent == Path("/tmp")  # noqa: S108  # what the code falls back to


def test_no_candidate_lists_every_place_looked_at(monkeypatch):
    monkeypatch.setattr("include.chimera.local.layout._LONGEST_SOCKET_DIR", 3)
    with pytest.raises(ConfigurationError, match="/srv/x/postgres/socket, "):
        _ = Layout(Path("/srv/x")).socket_dir
