"""The daily maintenance tasks: each returns what it removed, or would remove on a dry run.

None cleans Airflow's own database: tasks can't reach it (docs/adr/0012).
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.configuration import conf
from airflow.sdk import get_current_context, task

from include.chimera.flow.delivery.channels import channels
from include.chimera.flow.doc_pages import task_pages
from include.chimera.flow.foreign_errors import own_words
from include.chimera.flow.retry_policy import UPKEEP
from include.chimera.flow.run_context import begin_task
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOG_FOLDERS = ("base_log_folder", "dag_processor_child_process_log_directory")
_DAY_SECONDS = 86_400


def _is_dry() -> bool:
    context = get_current_context()
    begin_task(context)
    return bool(context["params"]["dry_run"])


@task(doc_md=task_pages.CLEAN, **UPKEEP)
@own_words()
def clean_logs() -> list[dict[str, str | int]]:
    """Remove this machine's task and DAG-file logs older than the setting `log_days`.

    Logs in an object store are left to the bucket's lifecycle rule.
    """
    days, is_dry = get_settings().log_days, _is_dry()
    return [remove_old_files(folder, days, dry_run=is_dry) for folder in log_folders()]


@task(doc_md=task_pages.CLEAN, **UPKEEP)
@own_words()
def maintain_lake() -> list[dict[str, str | int]]:
    """Remove expired payloads and unreferenced files; compact the operational tables."""
    from include.chimera.lake.upkeep.optimization import maintain  # noqa: PLC0415 - heavy

    return [asdict(removal) for removal in maintain(dry_run=_is_dry())]


@task(doc_md=task_pages.CLEAN, **UPKEEP)
@own_words()
def keep_outbox() -> dict[str, int]:
    """Resend messages that a channel did not take; forget those sent long ago."""
    from include.chimera.alerts import outbox  # noqa: PLC0415 - heavy

    is_dry = _is_dry()
    resent = 0 if is_dry else outbox.resend(channels())
    return {"resent": resent, "forgotten": outbox.prune(get_settings().log_days, dry_run=is_dry)}


@task(doc_md=task_pages.CLEAN, **UPKEEP)
@own_words()
def build_data_docs() -> dict[str, int]:
    """Forget GX's older results; write its own pages about those that stay."""
    from include.chimera.quality.gx.data_docs import build_docs, prune_results  # noqa: PLC0415 - heavy

    is_dry = _is_dry()
    forgotten = prune_results(dry_run=is_dry)
    if not is_dry:
        build_docs()
    return {"forgotten": forgotten}


def log_folders() -> list[Path]:
    """Return the log folders of tasks and DAG files; if one contains the other, only the outer."""
    folders = {Path(conf.get("logging", option)) for option in _LOG_FOLDERS}
    return sorted(folder for folder in folders if not folders & {*folder.parents})


def remove_old_files(folder: Path, days: int, *, dry_run: bool) -> dict[str, str | int]:
    """Remove logs (`*.log`) older than `days` and empty folders; return count and total bytes.

    A file that vanishes in the meantime is no error.
    """
    oldest = time.time() - days * _DAY_SECONDS
    count, size = 0, 0
    for path, status in _files(folder):
        if path.suffix == ".log" and status.st_mtime < oldest:
            count, size = count + 1, size + status.st_size
            if not dry_run:
                path.unlink(missing_ok=True)
                _remove_empty(path.parent, folder)
    return {"kind": "logs", "name": folder.name, "count": count, "size_bytes": size}


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            try:
                yield path, path.stat()
            except FileNotFoundError:
                continue


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove a folder and its parents, up to `root` (exclusive), while they are empty."""
    with contextlib.suppress(OSError):  # not empty, or gone
        while folder != root:
            folder.rmdir()
            folder = folder.parent
