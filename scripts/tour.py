"""Try what docs/runbook.md promises on a real scheduler, and write down what it answers.

Run from the project's root: `python -m scripts.tour` writes docs/tour.md. Commands and answers are
real; what differs from one tour to the next (clock times, durations, ports) stands as `…`. The
stack is the end-to-end tests' own: a local webhook takes Slack's place, and minutes are seconds.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from include.chimera.errors import CLI
from include.chimera.local.servers.stack import DAG_ID
from include.chimera.paths import PROJECT
from include.chimera.window import HOUR, Run, Window
from tests.e2e.duty import on_duty

if TYPE_CHECKING:
    from tests.e2e.duty import Duty

PAGE = PROJECT / "docs" / "tour.md"
START = datetime(2026, 3, 2, 9, tzinfo=UTC)
HOURS = [Window(START + number * HOUR, START + (number + 1) * HOUR) for number in range(2)]
HEAD = """# A tour of the controls

<!-- Written by `python -m scripts.tour`: change the script, not this page. -->

An hour in the life of whoever is on call, step by step as [the runbook](runbook.md) has it, on a
real scheduler with the sample application. `make test-long` takes the tour again and compares it
with this page. `$API` is `<url>/api/v2`; `…` stands for what is different each time.
"""
VOLATILE = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?(\+00:00)?", "…"),  # a moment of this tour
    (r"by \w+ at [\dT:+-]+:", "by … at …:"),
    (r"\b\d+ s\b", "… s"),
    (r"http://[\w.]+:\d+", "http://…"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}", "…"),  # an id that dbt or Airflow drew
)


class Tour:
    """Takes the steps and keeps what they show.

    Args:
        duty: A running stack that nothing has run on.
    """

    def __init__(self, duty: Duty) -> None:
        self.duty = duty
        self.text = [HEAD]

    def step(self, title: str, words: str) -> None:
        """Begin a step."""
        self._keep(f"## {title}\n\n{words}\n")

    def show(self, command: str, answer: str) -> None:
        """Keep a command and its answer."""
        for pattern, stand_in in VOLATILE:
            answer = re.sub(pattern, stand_in, answer, flags=re.MULTILINE)
        lines = [line.rstrip() for line in answer.strip().splitlines()]
        self._keep("\n".join(["```console", f"$ {command}", *lines, "```", ""]))

    def _keep(self, block: str) -> None:
        self.text.append(block)
        sys.stdout.write(f"{block}\n")
        sys.stdout.flush()

    def ask(self, method: str, path: str, names: tuple[str, ...], **body: object) -> dict[str, Any]:
        """Ask the API; show these fields of its answer."""
        answer: dict[str, Any] = self.duty.request(method, path, **body)
        sent = f" '{json.dumps(body)}'" if body else ""
        shown = {name: answer[name] for name in names}
        self.show(f"{method} $API{path}{sent}", json.dumps(shown))
        return answer

    def run(self, *words: str) -> str:
        """Run a command; show what it prints."""
        code, output = self.duty.command(*words)
        shown = " ".join(word if re.fullmatch(r"[\w:.-]+", word) else f"'{word}'" for word in words)
        self.show(f"{CLI} {shown}", output + f"(exit code {code})")
        return str(output)

    def wait(self, run_id: str) -> None:
        """Wait for a run's end; show its state and how its tasks ended."""
        state = self.duty.wait(DAG_ID, run_id, 600).state
        counts = Counter(self.duty.states(DAG_ID, run_id).values())
        tasks = {str(name): count for name, count in sorted(counts.items(), key=str)}
        self.show(
            f"GET $API/dags/{DAG_ID}/dagRuns/{run_id}",
            json.dumps({"state": state}) + "\n" + json.dumps({"tasks": tasks}),
        )

    def first_run(self) -> str:
        """Wait for the DAG's first run; return its id."""
        deadline = time.monotonic() + 60
        while not (runs := self.duty.stack.api.runs(DAG_ID)):
            assert time.monotonic() < deadline, "no run"  # noqa: S101 - a script that tests
            time.sleep(0.5)
        return runs[0].run_id

    def backfill(self, window: Window) -> int:
        """Create a backfill of one hour that has run already; return its id."""
        day = window.start.isoformat()
        answer = self.ask(
            "POST",
            "/backfills",
            ("id", "dag_id", "from_date", "to_date", "reprocess_behavior"),
            dag_id=DAG_ID,
            from_date=day,
            to_date=day,
            reprocess_behavior="completed",
        )
        return int(answer["id"])

    def clear(self, run_id: str, tasks: list[str], *, include_downstream: bool) -> None:
        """Clear tasks and wait for the run's end."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": tasks,
            "include_downstream": include_downstream,
            "only_failed": False,
        }
        self.ask("POST", f"/dags/{DAG_ID}/clearTaskInstances", ("total_entries",), **body)
        self.wait(run_id)

    def told(self, *words: str) -> None:
        """Show a message that came by Slack."""
        text = self.duty.slack.wait_for(*words, seconds=120)
        self.show("# in Slack", text.partition("\n")[2])  # its blocks; the fallback text repeats

    def execute(self, statement: str) -> None:
        """Change the application's database."""
        with psycopg.connect(self.duty.stack.app_db_uri, autocommit=True) as database:
            done = database.execute(statement.encode()).statusmessage or ""
        self.show(f'psql "$APP_DB" -c "{statement}"', done)


def take(tour: Tour) -> str:
    """Take the tour; return the page."""
    dag = f"/dags/{DAG_ID}"
    tour.step("Pause and unpause", "A paused DAG starts nothing. Unpaused, it goes on.")
    tour.ask("PATCH", dag, ("dag_id", "is_paused"), is_paused=True)
    tour.ask("PATCH", dag, ("dag_id", "is_paused"), is_paused=False)
    scheduled = tour.first_run()
    tour.wait(scheduled)
    tour.told("is published", scheduled)

    tour.step("Trigger an hour", "By hand, with a window. Watermarks stay where they are.")
    window = {
        "window_start": HOURS[1].start.isoformat(),
        "window_end": HOURS[1].end.isoformat(),
    }
    manual = tour.ask(
        "POST",
        f"{dag}/dagRuns",
        ("dag_run_id", "run_type", "conf"),
        logical_date=None,
        dag_run_id="manual__hour",
        conf=window,
    )["dag_run_id"]
    tour.wait(manual)
    tour.told("is published", manual)

    tour.step("Backfill", "The first hour again: the same rows are read, and none is new.")
    tour.backfill(HOURS[0])
    tour.wait(scheduled)
    tour.run("gaps", "--start", _plain(HOURS[0].start), "--end", _plain(HOURS[1].end))

    tour.step("Break a source", "A negative count of successes, in one hour's evaluations.")
    tour.execute("alter table app.evaluations add column was int")
    tour.execute("update app.evaluations set was = successes, successes = -1")
    broken = tour.ask(
        "POST",
        f"{dag}/dagRuns",
        ("dag_run_id", "conf"),
        logical_date=None,
        dag_run_id="manual__broken",
        conf={**window, "sources": ["bronze.evaluations"]},
    )["dag_run_id"]
    tour.wait(broken)

    tour.step("Read the alert", "Which rule, how many rows, which version is live, what to do.")
    tour.told("is refused", broken)

    tour.step("Find the log line", "By the correlation id that the alert carries.")
    correlation = Run(broken, HOURS[1]).correlation_id
    tour.run("logs", "--correlation-id", correlation, "--level", "error", "--task", "gate_bronze")

    tour.step("Fix the source and clear the task", "With its descendants: they run, once.")
    tour.execute("update app.evaluations set successes = was")
    tour.clear(broken, ["extract_evaluations"], include_downstream=True)
    tour.told("has recovered", broken)

    tour.step(
        "Replay the dead letters",
        "Lines of the API's log that nothing can parse stay refused; a letter that will never be "
        "good is parked, with a reason.",
    )
    listed = tour.run("dead-letters", "list", "--limit", "2")
    tour.run("dead-letters", "replay")
    (letter, *_) = re.findall(r"\b[0-9a-f]{32}\b", listed)
    tour.run("dead-letters", "park", letter, "--reason", "cut off by the application")

    tour.step("Stop publishing, put a table back, go on", "For emergencies.")
    tour.run("stop-publishing", "--reason", "cost is off by 1000")
    tour.run(
        *("restore", "gold.fct_generations", "--version", "1", "--reason", "cost is off by 1000")
    )
    tour.run("resume-publishing", "--reason", "the model is mended")
    tour.clear(manual, ["build_fct_generations"], include_downstream=True)

    tour.step("Run one model again", "The model and its gate, nothing else.")
    models = ["build_agg_usage_daily", "gate_gold_agg_usage_daily"]
    tour.clear(manual, models, include_downstream=False)

    tour.step("Cancel a backfill", "A queued run is marked failed; its tasks' states are gone.")
    tour.ask("PATCH", dag, ("dag_id", "is_paused"), is_paused=True)
    number = tour.backfill(HOURS[0])
    tour.ask("PUT", f"/backfills/{number}/cancel", ("id", "is_paused"))
    tour.wait(scheduled)
    return "\n".join(tour.text)


def _plain(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}"


def make() -> str:
    """Start a stack in a folder of its own, take the tour, return the page."""
    with (
        tempfile.TemporaryDirectory(prefix="chimera-tour-") as folder,
        on_duty(Path(folder), HOURS) as duty,
    ):
        return take(Tour(duty))


if __name__ == "__main__":
    PAGE.write_text(make())
    sys.stdout.write(f"wrote {PAGE}\n")
