"""Slack and e-mail: each is on if its Airflow connection exists, and has a short timeout."""

from __future__ import annotations

from contextlib import contextmanager
from http.client import HTTPException
from smtplib import SMTPException
from typing import TYPE_CHECKING

from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook
from airflow.providers.smtp.hooks.smtp import SmtpHook
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException, AirflowRuntimeError
from slack_sdk.errors import SlackClientError

from include.chimera.alerts.outbox import DeliveryError
from include.chimera.alerts.rendering import email, slack
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.alerts.messages import Message
    from include.chimera.alerts.outbox import Send

SLACK, SMTP = "slack_webhook", "smtp_default"
_SECONDS = 5


class _BoundedSmtpHook(SmtpHook):
    """The provider's hook, limited to one try of five seconds whatever the connection says."""

    timeout = _SECONDS
    smtp_retry_limit = 0


def channels() -> dict[str, Send]:
    """Return the channels that are set up, by connection id."""
    found: dict[str, Send] = {}
    if _exists(SLACK):
        found[SLACK] = _send_slack
    if get_settings().alert_emails and _exists(SMTP):
        found[SMTP] = _send_email
    return found


def _exists(conn_id: str) -> bool:
    try:
        BaseHook.get_connection(conn_id)
    except (AirflowNotFoundException, AirflowRuntimeError):
        return False
    return True


def _send_slack(message: Message) -> None:
    # Not the notifier, which renders templates: a message may contain braces.
    with _refusals(SLACK):
        SlackWebhookHook(slack_webhook_conn_id=SLACK, timeout=_SECONDS).send(**slack(message))


def _send_email(message: Message) -> None:
    subject, html = email(message)
    with _refusals(SMTP), _BoundedSmtpHook(smtp_conn_id=SMTP) as hook:
        hook.send_email_smtp(
            to=[part.strip() for part in get_settings().alert_emails.split(",")],
            subject=subject,
            html_content=html,
        )


@contextmanager
def _refusals(conn_id: str) -> Iterator[None]:
    """Report only the error's class: an HTTP error's text may hold the webhook's secret URL."""
    try:
        yield
    except (OSError, HTTPException, SMTPException, SlackClientError, AirflowException) as error:
        raise DeliveryError(came=type(error).__name__, where=f"connection {conn_id}") from None
