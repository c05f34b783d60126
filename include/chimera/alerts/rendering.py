"""Render a message in Slack's Block Kit or as an HTML e-mail."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from include.chimera.alerts.messages import Kind, Message

SIGNS: dict[Kind, str] = {
    "success": "✅",
    "recovery": "✅",
    "failure": "🔴",
    "gate_failure": "🔴",
    "late": "🟠",
    "dead_letters": "🟠",
}
# Source: https://docs.slack.dev/reference/block-kit/blocks (header, section, its text).
_HEADER, _TEXT = 150, 2900


class SlackMessage(TypedDict):
    """The arguments of an incoming webhook."""

    text: str
    blocks: list[dict[str, object]]


def slack(message: Message) -> SlackMessage:
    """Return the message for Slack: `text` for notifications, and `blocks`."""
    title = f"{SIGNS[message.kind]} {message.title}"
    lines = "\n".join(f"*{_mark(name)}*  {_mark(text)}" for name, text in message.facts)
    texts = [lines]
    if message.steps:
        steps = "\n".join(f"{place}. {_mark(step)}" for place, step in enumerate(message.steps, 1))
        texts.append(f"*What to do*\n{steps}")
    if message.link:
        texts.append(f"<{_mark(message.link)}|Open in Airflow>")
    sections: list[dict[str, object]] = [
        {"type": "section", "text": {"type": "mrkdwn", "text": text[:_TEXT]}} for text in texts
    ]
    header: dict[str, object] = {
        "type": "header",
        "text": {"type": "plain_text", "text": title[:_HEADER]},
    }
    return {"text": title, "blocks": [header, *sections]}


def email(message: Message) -> tuple[str, str]:
    """Return subject and HTML body."""
    rows = "".join(
        f"<tr><th align='left'>{escape(name)}</th><td>{escape(text)}</td></tr>"
        for name, text in message.facts
    )
    steps = "".join(f"<li>{escape(step)}</li>" for step in message.steps)
    todo = f"<h3>What to do</h3><ol>{steps}</ol>" if steps else ""
    link = f"<p><a href='{escape(message.link)}'>Open in Airflow</a></p>" if message.link else ""
    body = f"<h2>{escape(message.title)}</h2><table>{rows}</table>{todo}{link}"
    return f"[Chimera] {message.title}", body


def _mark(text: str) -> str:
    """Escape Slack's three control characters."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
