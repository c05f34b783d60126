"""A client of Airflow's public REST API (v2), with the calls that the embedded default needs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, TypeVar

import httpx
import msgspec

from include.chimera.errors import SourceUnavailableError, TerminalError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PAGE = 100
_TRIES = 5
State = TypeVar("State")


@dataclass(frozen=True)
class DagRunState:
    """A DAG run as the API returns it."""

    run_id: str
    run_type: str
    state: str
    window_start: datetime | None
    window_end: datetime | None
    queued_at: datetime | None
    start_at: datetime | None
    end_at: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, with success or not."""
        return self.state in {"success", "failed"}


@dataclass(frozen=True)
class TaskState:
    """A task of a run as the API returns it; a time is None until it is known."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    queued_at: datetime | None
    start_at: datetime | None
    end_at: datetime | None


@dataclass(frozen=True)
class ImportFault:
    """A DAG file that can't be imported."""

    filename: str
    stack_trace: str
    timestamp: datetime


_OUR_NAMES = {
    "dag_run_id": "run_id",
    "data_interval_start": "window_start",
    "data_interval_end": "window_end",
    "queued_when": "queued_at",
    "start_date": "start_at",
    "end_date": "end_at",
}


def _renamed(item: Mapping[str, Any]) -> dict[str, Any]:
    return {_OUR_NAMES.get(name, name): value for name, value in item.items()}


class Pool(TypedDict):
    """A pool in the form of airflow_settings.yaml."""

    pool_name: str
    pool_slot: int
    pool_description: NotRequired[str]


class AirflowApi:
    """Client of the API server; logs in at the first request and when the token has expired.

    Args:
        url: The server's address.
        user: Who logs in; none: the server takes everybody for an admin, as astro's does.
        password: The user's password.
    """

    def __init__(self, url: str, user: str = "", password: str = "") -> None:
        self._login = {"username": user, "password": password}
        # trust_env=False: a proxy from the environment must not see loopback requests.
        self._client = httpx.Client(base_url=url, timeout=30.0, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def is_up(self) -> bool:
        """Does the server answer, and tasks too?

        It builds the API for tasks at the first request, which takes seconds: better now than when
        an hour's first tasks ask.
        """
        try:
            return self._client.get("/execution/health", timeout=5.0).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def health(self) -> Mapping[str, Any]:
        """Return each component's status, as the API returns it."""
        return dict(self._request("GET", "/monitor/health"))

    def set_pools(self, pools: Sequence[Pool]) -> None:
        """Create or overwrite pools, given in the form of airflow_settings.yaml.

        Raises:
            TerminalError: The API refused one.
        """
        entities = [
            {
                "name": pool["pool_name"],
                "slots": pool["pool_slot"],
                "description": pool.get("pool_description") or "",
                "include_deferred": False,
            }
            for pool in pools
        ]
        action = {"action": "create", "entities": entities, "action_on_existence": "overwrite"}
        answer = self._request("PATCH", "/pools", json={"actions": [action]})
        refused = (answer.get("create") or {}).get("errors")
        if refused:
            raise TerminalError(
                expected="pools that Airflow accepts",
                came=f"{len(refused)} refusals: {refused[0]}",
                where="airflow_settings.yaml",
                remedy="correct the pool",
            )

    def known(self) -> set[tuple[str, str]]:
        """Return all pools and connections of Airflow's database, each as (kind, name)."""
        pools = self._request("GET", "/pools", params={"limit": _PAGE})["pools"]
        found = self._request("GET", "/connections", params={"limit": _PAGE})["connections"]
        names = {("connection", each["connection_id"]) for each in found}
        return names | {("pool", pool["name"]) for pool in pools}

    def paused(self) -> list[str]:
        """Return the ids of the DAGs that have a schedule, are paused, and have never run."""
        dags = self._request("GET", "/dags", params={"limit": _PAGE})["dags"]
        paused = [dag["dag_id"] for dag in dags if dag["is_paused"] and dag["timetable_summary"]]
        return [dag_id for dag_id in paused if not self.runs(dag_id)]

    def parsed_at(self, dag_id: str) -> datetime | None:
        """Return when the DAG's file was last parsed with success; None: never."""
        answer = self._request("GET", f"/dags/{dag_id}", missing_ok=True)
        return msgspec.convert(answer["last_parsed_time"], datetime | None) if answer else None

    def import_errors(self) -> list[ImportFault]:
        """Return the DAG files that can't be imported."""
        answer = self._request("GET", "/importErrors", params={"limit": _PAGE})
        return msgspec.convert(answer["import_errors"], list[ImportFault])

    def next_deadlines(self, dag_id: str) -> list[float] | None:
        """Return the deadlines of a DAG's next run, in seconds; None: there is no such DAG."""
        path = f"/ui/dags/{dag_id}/deadlineAlerts"
        answer = self._request("GET", path, missing_ok=True)
        return [item["interval"] for item in answer["deadline_alerts"]] if answer else None

    def has_deadline(self, dag_id: str, run_id: str) -> bool:
        """Does a run have a deadline, missed or not?"""
        path = f"/ui/dags/{dag_id}/dagRuns/{run_id}/deadlines"
        return bool(self._request("GET", path)["total_entries"])

    def set_paused(self, dag_id: str, *, is_paused: bool) -> None:
        """Pause or unpause a DAG."""
        self._request("PATCH", f"/dags/{dag_id}", json={"is_paused": is_paused})

    def runs(self, dag_id: str) -> list[DagRunState]:
        """Return all runs of a DAG, oldest window first; those without a window come last."""
        runs = self._pages(f"/dags/{dag_id}/dagRuns", "dag_runs", DagRunState)
        return sorted(
            runs, key=lambda run: (run.window_start is None, run.window_start, run.run_id)
        )

    def run(self, dag_id: str, run_id: str) -> DagRunState:
        """Return one run."""
        item = self._request("GET", f"/dags/{dag_id}/dagRuns/{run_id}")
        return msgspec.convert(_renamed(item), DagRunState)

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """Return the tasks of a run."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return self._pages(path, "task_instances", TaskState)

    def clear(self, dag_id: str, run_id: str) -> None:
        """Clear all tasks of a run, to run again with the current DAG version."""
        body = {"dry_run": False, "only_failed": False, "run_on_latest_version": True}
        self._request("POST", f"/dags/{dag_id}/dagRuns/{run_id}/clear", json=body)

    def fail(self, dag_id: str, run_id: str) -> None:
        """Mark a run as failed that no process works on any more."""
        self._request("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", json={"state": "failed"})

    def _pages(self, path: str, name: str, kind: type[State]) -> list[State]:
        items: list[State] = []
        while True:
            page = self._request("GET", path, params={"limit": _PAGE, "offset": len(items)})
            items += [msgspec.convert(_renamed(item), kind) for item in page[name]]
            if len(items) >= page["total_entries"] or not page[name]:
                return items

    def _request(
        self,
        method: str,
        path: str,
        *,
        missing_ok: bool = False,
        params: Mapping[str, int] | None = None,
        json: object = None,
    ) -> Any:  # noqa: ANN401  # JSON
        """Send a request; retry after an outage or an expired token.

        With `missing_ok`, a 404 returns None. What the public API lacks comes from the UI's own
        (`/ui/…`).

        Raises:
            SourceUnavailableError: No answer, or a server error.
            TerminalError: The server refused the request.
        """
        place, came = path if path.startswith("/ui/") else f"/api/v2{path}", "nothing"
        for attempt in range(_TRIES):
            time.sleep(0.5 * attempt)
            try:
                self._log_in()
                answer = self._client.request(method, place, params=params, json=json)
            except httpx.TransportError as error:
                came = type(error).__name__
                continue
            came = f"{answer.status_code}: {answer.text[:300]}"
            if answer.is_success:
                return answer.json()
            if answer.status_code == httpx.codes.NOT_FOUND and missing_ok:
                return None
            self._refuse(answer, came)
        raise SourceUnavailableError(
            expected=f"an answer in {_TRIES} tries",
            came=came,
            where=f"{method} {path}",
            remedy="read the API server's log",
        )

    def _refuse(self, answer: httpx.Response, came: str) -> None:
        """Raise unless a retry may help."""
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._client.headers.pop("Authorization", None)
        elif not answer.is_server_error:
            raise TerminalError(
                expected="an answer",
                came=came,
                where=f"{answer.request.method} {answer.request.url.path}",
                remedy="read the API server's log",
            )

    def _log_in(self) -> None:
        if "Authorization" in self._client.headers:
            return
        if self._login["username"]:
            answer = self._client.post("/auth/token", json=self._login)
        else:
            answer = self._client.get("/auth/token")
        if answer.is_success:
            self._client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
