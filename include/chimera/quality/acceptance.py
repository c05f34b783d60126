"""Override a failed gate: a person's recorded decision about exactly the files now staged."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING

from include.chimera.errors import CLI, ControlRefusedError, NothingToAcceptError
from include.chimera.lake.staged.manifests import manifest_place
from include.chimera.lake.staged.records import Record, read_at, read_record, write_record
from include.chimera.lake.staged.verdicts import Verdict
from include.chimera.lake.store import storage
from include.chimera.lake.store.places import encoded
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.chimera.window import Run

REASON_LENGTH = 500


@dataclass(frozen=True)
class Acceptance(Record):
    """Who accepted which failed rules for which staged files, and why.

    Args:
        table: `<layer>.<table>`.
        run_id: The run that staged the files.
        accepted_by: The person: the UI's user, or on the command line the operating system's.
        reason: In the person's own words, at most 500 characters.
        accepted_at: ISO 8601, UTC.
        rules: The rules that had failed; any other failing rule is not covered.
        stage: SHA-256 of the manifest; any other staged files are not covered.
    """

    file_name = "acceptance.json"

    table: str
    run_id: str
    accepted_by: str
    reason: str
    accepted_at: str
    rules: list[str]
    stage: str

    def metadata(self) -> dict[str, str]:
        """Return the acceptance as commit metadata."""
        return {
            "accepted_by": self.accepted_by,
            "accepted_reason": self.reason,
            "accepted_at": self.accepted_at,
            "accepted_rules": json.dumps(self.rules),
        }


def accept(table: str, run_id: str, reason: str, who: str = "") -> Acceptance:
    """Record that a person accepts a failed gate; the gate's next attempt will publish.

    Args:
        table: `<layer>.<table>`.
        run_id: Airflow's run id, or `latest`.
        reason: Why, in the person's words.
        who: The person; "": the operating system's user.

    Raises:
        NothingToAcceptError: No gate of this table failed in this run, or the reason is empty.
    """
    run = find_run(table, run_id)
    verdict = read_record(run, table, Verdict)
    if verdict is None or verdict.success or not reason.strip():
        raise NothingToAcceptError(
            expected="a failed gate and a reason",
            came=f"a gate that {verdict.outcome if verdict else 'has not run'}"
            if reason.strip()
            else "an empty reason",
            where=f"table {table}, run {run.run_id}",
            remedy=f"see `{CLI} validate {table}` for the verdict; give --reason",
        )
    acceptance = Acceptance(
        table,
        run.run_id,
        who or current_user(),
        reason.strip()[:REASON_LENGTH],
        datetime.now(UTC).isoformat(timespec="seconds"),
        list(verdict.failed_rules),
        _stage_digest(run, table),
    )
    write_record(run, table, acceptance)
    return acceptance


def find_acceptance(run: Run, table: str, failed_rules: Sequence[str]) -> Acceptance | None:
    """Return the acceptance that covers these failed rules for the files now staged, or None."""
    found = read_record(run, table, Acceptance)
    if found is None or not set(failed_rules) <= set(found.rules):
        return None
    return found if found.stage == _stage_digest(run, table) else None


def find_run(table: str | None, run_id: str) -> Run:
    """Return the run with this id, or the newest (`latest`), for which the table has a verdict.

    Args:
        table: `<layer>.<table>`; None: any table.
        run_id: Airflow's run id, or `latest`.

    Raises:
        NothingToAcceptError: There is no such run.
    """
    judged = verdicts(table)
    for verdict in sorted(judged, key=attrgetter("validated_at"), reverse=True):
        if run_id in ("latest", verdict.run_id):
            return verdict.run
    runs = len({verdict.run_id for verdict in judged})
    raise NothingToAcceptError(
        expected=f"a run {run_id} in which the gate of {table or 'any table'} has judged what is "
        "staged now",
        came=f"{runs} other runs in which it has" if runs else "no run in which it has",
        where=_runs(),
        remedy="copy the run id from Airflow or from the gate's message; of a run that was cleared "
        "let the gate judge again first",
    )


def verdicts(table: str | None = None) -> list[Verdict]:
    """Return a table's verdicts in all runs; None: every table's."""
    runs = _runs()
    places = (
        f"{runs}/{run}/{folder}/{Verdict.file_name}"
        for run in storage.folders(runs)
        for folder in ([encoded(table)] if table else storage.folders(f"{runs}/{run}"))
    )
    return [found for place in places if (found := read_at(place, Verdict))]


def _runs() -> str:
    return f"{get_settings().lake}/_runs"


def current_user() -> str:
    """Return the operating system's name for this process's user."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def require_reason(text: str) -> str:
    """Return a person's reason on one line, cut to 500 characters.

    Raises:
        ControlRefusedError: The reason is empty.
    """
    words = " ".join(text.split())[:REASON_LENGTH]
    if not words:
        raise ControlRefusedError(
            expected="a reason",
            came="an empty one",
            where="--reason",
            remedy="say why: it is recorded",
        )
    return words


def _stage_digest(run: Run, table: str) -> str:
    manifest = storage.read_text(manifest_place(run, table))
    return "" if manifest is None else hashlib.sha256(manifest.encode()).hexdigest()
