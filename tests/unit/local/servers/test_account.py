"""If we are root, PostgreSQL runs as an unused uid."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from include.chimera.errors import ConfigurationError
from include.chimera.local.layout import Layout
from include.chimera.local.servers import account


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the module believe that we are root on Linux."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(account.sys, "platform", "linux")


def test_an_ordinary_user_runs_it_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    """No uid, no options, and folders have their own paths."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert account.choose(Layout(Path("/srv/x"))) is None
    assert account.launch_options(None, shielded=True) == []
    assert account.seen_from_inside(Path("/srv/x"), None) == "/srv/x"


@pytest.mark.usefixtures("as_root")
def test_a_number_with_a_name_is_left_to_who_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice is the same at each start, and skips to the next uid without a name."""
    layout = Layout(Path("/srv/x"))
    first = account.choose(layout)
    assert first == account.choose(layout)
    monkeypatch.setattr(account, "_name", {first: "somebody"}.get)
    second = account.choose(layout)
    assert second != first
    assert {first, second} < {*range(60706, 61184)}
    monkeypatch.setattr(account, "_name", lambda _: "somebody")
    with pytest.raises(ConfigurationError, match="60706 to 61183"):
        account.choose(layout)


@pytest.mark.usefixtures("as_root")
def test_root_elsewhere_than_on_linux_is_told_to_be_another_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other systems have no path to the working folder that avoids its closed parents."""
    monkeypatch.setattr(account.sys, "platform", "darwin")
    with pytest.raises(ConfigurationError, match="run as another user"):
        account.choose(Layout(Path("/srv/x")))


def test_a_user_without_a_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container started with a uid; initdb's message would be less clear."""
    monkeypatch.setattr(os, "geteuid", lambda: 60999)
    with pytest.raises(ConfigurationError, match="the number 60999"):
        account.our_name()
