"""The task that tries a Deployment from one of its workers."""

from __future__ import annotations

import logging

from airflow.sdk import get_current_context, task

from include.chimera.errors import ConfigurationError
from include.chimera.flow.doc_pages import task_pages
from include.chimera.flow.foreign_errors import own_words
from include.chimera.flow.retry_policy import task_arguments

logger = logging.getLogger(__name__)


@task(doc_md=task_pages.TRY, **task_arguments(retries=0, minutes=4))
@own_words()
def try_everything() -> int:
    """Try all that an hour needs, line by line; return how many checks there were.

    Raises:
        ConfigurationError: Something is missing; it names all of it, and what mends it.
    """
    from include.chimera.flow.doctor.examination import examine  # noqa: PLC0415 - heavy

    send, missing, count = bool(get_current_context()["params"]["send_test_message"]), [], 0
    for finding in examine(send=send, in_worker=True):
        count += 1
        if finding.is_kept:
            logger.info("%s: %s", finding.check, finding.text)
        else:
            logger.error("%s: %s. Next: %s", finding.check, finding.text, finding.remedy)
            missing.append(finding)
    if missing:
        raise ConfigurationError(
            expected="all that an hour needs",
            came="; ".join(f"{finding.check}: {finding.text}" for finding in missing),
            where=f"a worker of Airflow, {len(missing)} of {count} checks",
            remedy="; ".join(finding.remedy for finding in missing),
        )
    return count
