"""The outbox: each message is sent once, and kept until every channel has accepted it.

In the lake's `_alerts/`, `waiting/` holds messages that a channel has not accepted yet, `told/`
those sent, and `open/` the hours whose failure was announced and that are still not published.
A crash between sending and recording repeats a message: delivery is at least once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter

from include.chimera.alerts.messages import Message
from include.chimera.errors import RetryableError
from include.chimera.lake.store import storage
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from include.chimera.window import Window

logger = logging.getLogger(__name__)

Send = Callable[[Message], None]
# Longer than both channels' timeouts together: until then, another process may be sending it.
_LEASE = timedelta(seconds=30)


@dataclass(frozen=True)
class _Told:
    kind: str
    key: str
    told_at: datetime


@dataclass(frozen=True)
class _Waiting:
    message: Message
    pending: list[str]
    attempted_at: datetime


@dataclass(frozen=True)
class _OpenFailure:
    title: str


_Entry = TypeVar("_Entry", _Told, _Waiting, _OpenFailure)
# Building one takes longer than reading an entry.
_adapter: Callable[[type], TypeAdapter[Any]] = cache(TypeAdapter)
_FOLDERS = {_Told: "told", _Waiting: "waiting", _OpenFailure: "open"}


class DeliveryError(RetryableError):
    """A channel did not accept a message."""

    expects = "a peer that takes a message"
    helps = "check the connection; the message waits in the outbox and is sent again"


def announce(message: Message, channels: Mapping[str, Send]) -> bool:
    """Send a message to all channels, once; return whether it was new.

    Then retry older messages that still wait. If a channel does not accept the message, the next
    announcement or `resend` retries it. Without channels, nothing is sent or kept.
    """
    if not channels:
        return False
    try:
        was_known = is_known(message)
        if not was_known:
            _deliver(message, list(channels), channels)
        resend(channels)
    except OSError as error:
        logger.warning("the outbox can't be used (%s): sending without it", type(error).__name__)
        _try(message, list(channels), channels)
        return True
    return not was_known


def is_known(message: Message) -> bool:
    """Was the message sent, or does it wait?"""
    return bool(_read(_Told, message.message_id) or _read(_Waiting, message.message_id))


def told_at(message: Message) -> datetime | None:
    """Return when a message was sent, UTC; None: it was not, or it is forgotten."""
    entry = _read(_Told, message.message_id)
    return entry.told_at if entry else None


def note(message: Message) -> None:
    """Record a message as sent; also used without sending if another one says the same."""
    _write(message.message_id, _Told(message.kind, message.key, datetime.now(UTC)))


def resend(channels: Mapping[str, Send]) -> int:
    """Retry waiting messages that no process is sending; return how many are now delivered."""
    done = 0
    for message_id in _ids("waiting"):
        entry = _read(_Waiting, message_id)
        if entry and entry.attempted_at + _LEASE < datetime.now(UTC):
            done += _deliver(entry.message, entry.pending, channels)
    return done


def waiting() -> int:
    """Return how many messages still wait for a channel."""
    return len(_ids("waiting"))


def prune(days: int, *, dry_run: bool = False) -> int:
    """Forget messages sent more than `days` ago; return how many. A dry run only counts them."""
    before = datetime.now(UTC) - timedelta(days=days)
    told = {each: _read(_Told, each) for each in _ids("told")}
    old = [each for each, entry in told.items() if entry is None or entry.told_at < before]
    if not dry_run:
        storage.delete_files(_place("told", each) for each in old)
    return len(old)


def open_failure(window: Window, title: str) -> None:
    """Remember that the failure of these hours was announced."""
    _write(_label(window), _OpenFailure(title))


def close_failure(window: Window) -> str | None:
    """Forget the announced failure of these hours and return its title; None: there was none."""
    entry = _read(_OpenFailure, _label(window))
    if entry is None:
        return None
    storage.delete_files([_place("open", _label(window))])
    return entry.title


def failed_hours() -> list[str]:
    """Return the windows whose failure was announced and that are still not published."""
    return _ids("open")


def _deliver(message: Message, pending: list[str], channels: Mapping[str, Send]) -> bool:
    """Try the pending channels, keep the message if one fails; return whether all accepted it."""
    entry = _Waiting(message, pending, datetime.now(UTC))
    _write(message.message_id, entry)
    left = _try(message, pending, channels)
    if left:
        _write(message.message_id, replace(entry, pending=left))
        return False
    note(message)
    storage.delete_files([_place("waiting", message.message_id)])
    return True


def _try(message: Message, pending: list[str], channels: Mapping[str, Send]) -> list[str]:
    """Send to the pending channels; return those that did not accept the message."""
    left = []
    for name in pending:
        try:
            if name in channels:
                channels[name](message)
        except DeliveryError as error:
            logger.warning("%s did not take a message: %s", name, error.came)
            left.append(name)
        else:
            logger.info("told by %s: %s", name, message.title)
    return left


def _label(window: Window) -> str:
    return f"{window.start:%Y%m%dT%H}-{window.end:%Y%m%dT%H}"


def _place(folder: str, name: str) -> str:
    return f"{get_settings().lake}/_alerts/{folder}/{name}.json"


def _ids(folder: str) -> list[str]:
    names = storage.files(f"{get_settings().lake}/_alerts/{folder}")
    return [name.removesuffix(".json") for name in names if not name.startswith(".")]


def _read(kind: type[_Entry], name: str) -> _Entry | None:
    text = storage.read_text(_place(_FOLDERS[kind], name))
    entry: _Entry | None = None if text is None else _adapter(kind).validate_json(text)
    return entry


def _write(name: str, entry: _Told | _Waiting | _OpenFailure) -> None:
    text = _adapter(type(entry)).dump_json(entry, indent=1).decode()
    storage.write_text(_place(_FOLDERS[type(entry)], name), text)
