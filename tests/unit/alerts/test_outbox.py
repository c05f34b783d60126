"""The outbox: send once, keep while a channel is down, retry later."""

from datetime import UTC, datetime, timedelta

import pytest

from include.chimera.alerts import outbox
from include.chimera.alerts.messages import Message
from include.chimera.alerts.outbox import DeliveryError, announce, resend
from include.chimera.window import Window

MESSAGE = Message("failure", "run|task|1", "title", (("a", "b"),))


class Channel:
    """Keeps what it is sent, unless it is down."""

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.is_down = False

    def __call__(self, message: Message) -> None:
        if self.is_down:
            raise DeliveryError(expected="a", came="b", where="c", remedy="d")
        self.taken.append(message)


@pytest.fixture(autouse=True)
def lake(tmp_path, monkeypatch):
    settings = outbox.get_settings().model_copy(update={"lake_root": str(tmp_path)})
    monkeypatch.setattr(outbox, "get_settings", lambda: settings)
    return tmp_path


def test_a_message_is_told_once() -> None:
    channel = Channel()
    assert announce(MESSAGE, {"a": channel})
    assert not announce(MESSAGE, {"a": channel})
    assert channel.taken == [MESSAGE]


def test_only_the_channel_that_was_down_is_sent_it_again(monkeypatch) -> None:
    up, down = Channel(), Channel()
    down.is_down = True
    assert announce(MESSAGE, {"up": up, "down": down})
    down.is_down = False
    assert resend({"up": up, "down": down}) == 0  # it may still be on its way
    monkeypatch.setattr(outbox, "_LEASE", timedelta(0))
    assert resend({"up": up, "down": down}) == 1
    assert (len(up.taken), len(down.taken)) == (1, 1)
    assert resend({"up": up, "down": down}) == 0


def test_a_broken_outbox_still_tells(lake) -> None:
    """People must hear of a full or read-only lake."""
    (lake / "_alerts").write_text("not a folder")
    channel = Channel()
    assert announce(MESSAGE, {"a": channel})
    assert channel.taken == [MESSAGE]


def test_old_messages_are_forgotten_and_waiting_ones_kept() -> None:
    down = Channel()
    down.is_down = True
    announce(MESSAGE, {"a": down})
    announce(Message("late", "k", "t", ()), {"b": Channel()})
    assert outbox.prune(days=1) == 0
    assert outbox.prune(days=-1, dry_run=True) == 1
    assert outbox.prune(days=-1) == 1
    assert outbox.prune(days=-1) == 0
    assert outbox.waiting() == 1


def test_a_failure_stays_open_until_its_hours_are_published() -> None:
    window = Window.of_hour(datetime(2026, 3, 1, 9, tzinfo=UTC))
    outbox.open_failure(window, "title")
    assert outbox.failed_hours() == ["20260301T09-20260301T10"]
    assert outbox.close_failure(window) == "title"
    assert outbox.close_failure(window) is None
