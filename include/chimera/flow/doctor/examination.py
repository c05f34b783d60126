"""All checks of `doctor` that Airflow's connections and settings are enough for, in order."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError
from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]  # it ships no types

from include.chimera.alerts.messages import Message
from include.chimera.alerts.outbox import DeliveryError
from include.chimera.errors import CLI, ConfigurationError
from include.chimera.flow.connections import (
    API_LOGS,
    APP_DB,
    JSON,
    OTEL,
    PROMETHEUS,
    REPORTS,
    api_logs_root,
    connection_of,
    libpq_uri,
    own_connection,
    prometheus_server,
    reach_store,
    records_root,
    reports_root,
    spans_root,
    spark_remote,
)
from include.chimera.flow.delivery.channels import SLACK, SMTP, channels
from include.chimera.flow.doctor.airflow_checks import check_airflow
from include.chimera.lake.store.storage import s3_client, try_conditional_put
from include.chimera.observe.findings import Finding, Trial, checking, skew
from include.chimera.profiles.chosen import sources
from include.chimera.settings import get_settings
from include.chimera.sources.json_records.extract import is_record_file
from include.chimera.sources.otel.extract import is_span_file
from include.chimera.sources.postgres.database_checks import check_database
from include.chimera.sources.prometheus.scrape_checks import check_prometheus
from include.chimera.sources.reports.extract import is_report, published_files
from include.chimera.sources.stored.stored_files import all_listed
from include.chimera.window import HOUR, floor_hour

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.sdk import Connection

    from include.chimera.sources.stored.stored_files import SourceRoot

_EXAMPLES = {
    APP_DB: '{"conn_type": "postgres", "host": "…", "login": "chimera_reader", "password": "…", '
    '"schema": "…", "extra": {"sslmode": "verify-full", "sslrootcert": "…"}}',
    PROMETHEUS: '{"conn_type": "http", "host": "https://…", "login": "…", "password": "…"}',
}
_LONGEST = 200  # characters of what a store says, which names the object alone
Root = TypeVar("Root")
_LOOK_BACK = 48  # hours in which the newest log is looked for


def examine(*, send: bool, in_worker: bool = False) -> Iterator[Finding]:
    """Check a Deployment part by part.

    Args:
        send: Whether each channel gets a test message.
        in_worker: Whether this is a task, for which Airflow's own database is out of reach.
    """
    yield from check_airflow(in_worker=in_worker)
    read = sources()
    if APP_DB in read:
        yield from _source(APP_DB, lambda connection: check_database(libpq_uri(connection)))
    if PROMETHEUS in read:
        yield from _source(PROMETHEUS, lambda found: check_prometheus(prometheus_server(found)))
    store = _check_store()
    yield store
    if store.is_kept:
        yield from _check_store_clock()
    if API_LOGS in read:
        yield _check_logs()
    if REPORTS in read:
        yield _check_reports()
    if OTEL in read:
        remedy = "let a Collector's file exporter write there, or set CHIMERA_SPANS_ROOT"
        yield _check_files("spans", OTEL, spans_root, is_span_file, remedy)
    if JSON in read:
        remedy = "write files there, or set CHIMERA_RECORDS_ROOT"
        yield _check_files("json records", JSON, records_root, is_record_file, remedy)
    yield from _check_spark()
    yield from _check_channels(send=send)


def _source(conn_id: str, check: Callable[[Connection], Iterator[Finding]]) -> Iterator[Finding]:
    with checking(f"connection {conn_id}") as there:
        try:
            connection = BaseHook.get_connection(conn_id)
        except (AirflowNotFoundException, AirflowRuntimeError):
            remedy = f"airflow connections add {conn_id} --conn-json '{_EXAMPLES[conn_id]}'"
            there.fault("none of this name", remedy)
            yield there.finding()
            return
        found = check(connection)
    if there.faults:
        yield there.finding()
        return
    yield from found


def _check_store() -> Finding:
    """Write, read, delete, and let two writers meet, where the lake is."""
    lake = get_settings().lake
    with checking("lake") as store:
        try:
            reach_store()
            try_conditional_put(lake)
        except (AirflowNotFoundException, AirflowRuntimeError):
            name = get_settings().store_connection
            remedy = f"airflow connections add {name} --conn-type aws …, or unset"
            store.fault(f"no connection {name}", f"{remedy} CHIMERA_STORE_CONNECTION")
        except (OSError, BotoCoreError) as error:
            remedy = "see that it is there, and docs/security.md for the rights that are needed"
            store.fault(f"{lake}: {str(error)[:_LONGEST]}", remedy)
        store.text = f"{lake}: written, read, deleted; one of two writers refused"
    return store.finding()


def _root(told: Trial, source: str, root_of: Callable[[Connection | None], Root]) -> Root | None:
    """Return the root of a source's files; None: its connection is missing, and told so."""
    try:
        return root_of(own_connection(source))
    except (AirflowNotFoundException, AirflowRuntimeError):
        name = connection_of(source)
        told.fault(f"no connection {name}", f"airflow connections add {name} --conn-type aws …")
        return None


def _check_logs() -> Finding:
    """List the logs' root back to the newest hour that has a file."""
    with checking("api logs") as logs:
        found = _root(logs, API_LOGS, api_logs_root)
        if found is None:
            return logs.finding()
        newest = floor_hour(datetime.now(UTC))
        for hour in (newest - back * HOUR for back in range(_LOOK_BACK)):
            folder = found.hour(hour)
            if folder.files:
                logs.text = f"{folder.place}: {len(folder.files)} files, the newest hour"
                return logs.finding()
        remedy = f"let the shipper write {found.hour(newest).place}/<name>.jsonl, or set "
        logs.fault(f"no file of the last {_LOOK_BACK} hours", f"{remedy}CHIMERA_API_LOGS_ROOT")
    return logs.finding()


def _check_reports() -> Finding:
    """List all reports, and say which of them stand in no evaluation yet."""
    with checking("evaluation reports") as reports:
        root = _root(reports, REPORTS, reports_root)
        if root is None:
            return reports.finding()
        found = {file.name for each in all_listed(root, is_report) for file in each.files}
        waiting = sorted(found - set(published_files()))
        reports.text = f"{len(found)} files, {len(waiting)} without an evaluation"
        if waiting:
            reports.text += f", such as {waiting[0]}: not due yet, or refused or unfinished"
        if not found:
            remedy = "write reports there, or set CHIMERA_EVALUATIONS_ROOT"
            reports.fault("no report", remedy)
    return reports.finding()


def _check_files(
    what: str,
    source: str,
    root_of: Callable[[Connection | None], SourceRoot],
    is_wanted: Callable[[str], bool],
    remedy: str,
) -> Finding:
    """List all files of a source, and say when the newest of them was written."""
    with checking(what) as told:
        root = _root(told, source, root_of)
        if root is None:
            return told.finding()
        files = [file for each in all_listed(root, is_wanted) for file in each.files]
        written = [file.written_at() for file in files if not file.fault]
        if not written:
            told.fault("no file", remedy)
            return told.finding()
        newest = datetime.fromtimestamp(max(written), UTC).isoformat(timespec="seconds")
        told.text = f"{len(files)} files, the newest written at {newest}"
    return told.finding()


def _check_spark() -> Iterator[Finding]:
    """Let the server that computes the models, if one does, write a file into the lake."""
    if get_settings().engine != "spark":
        return
    from include.chimera.lake.spark.builds import try_server  # noqa: PLC0415 - heavy

    with checking("spark") as spark:
        remote = spark_remote()
        spark.text = f"{remote.partition(';')[0]}: {try_server(remote)}, writes the lake"
    yield spark.finding()


def _check_store_clock() -> Iterator[Finding]:
    """Compare an object store's clock, which its answers tell, with this machine's."""
    bucket = urlsplit(get_settings().lake)
    if bucket.scheme:
        answer = s3_client().list_objects_v2(Bucket=bucket.netloc, MaxKeys=1)
        date = answer["ResponseMetadata"]["HTTPHeaders"]["date"]
        yield skew("lake: clock", parsedate_to_datetime(date))


def _check_channels(*, send: bool) -> Iterator[Finding]:
    """Name the channels that are set up; send each a message if that is asked for."""
    found = channels()
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    facts = (("sent by", f"{CLI} doctor"), ("nothing", "is wrong"))
    message = Message("success", f"doctor {moment}", "A test message", facts)
    for name in (SLACK, SMTP):
        with checking(f"alerts: {name}") as channel:
            if name not in found:
                channel.text = "off: no connection of this name"
                if name == SMTP:
                    channel.text += ", or CHIMERA_ALERT_EMAILS is empty"
            elif send:
                try:
                    found[name](message)
                except DeliveryError as error:
                    raise ConfigurationError(
                        expected="a channel that takes a message",
                        came=error.came,
                        where=error.where,
                        remedy=f"correct the connection {name}",
                    ) from None
                channel.text = "a test message was taken"
            else:
                channel.text = "set up; --send-test-message tries it"
        yield channel.finding()
