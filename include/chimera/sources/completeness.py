"""Is a source complete up to a moment?

Each function returns what is still missing, in words, or "" if nothing is. Data that arrives even
later (a late line, a transaction still open) is picked up by later hours.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.chimera.errors import SourceChangedError
from include.chimera.profiles.chosen import sources
from include.chimera.settings import get_settings
from include.chimera.sources.api_logs.log_files import MARKER
from include.chimera.sources.json_records.extract import is_record_file
from include.chimera.sources.otel.extract import is_span_file
from include.chimera.sources.postgres.sessions import clock
from include.chimera.sources.prometheus.extract import reach, settling_seconds
from include.chimera.sources.reports.extract import is_report
from include.chimera.window import HOUR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from include.chimera.sources.api_logs.log_files import LogRoot
    from include.chimera.sources.prometheus.prometheus_api import PrometheusServer
    from include.chimera.sources.stored.stored_files import SourceRoot

_QUIET = timedelta(seconds=30)  # log shippers flush within seconds
# An SDK's batch waits 5 s by default, a Collector's 200 ms; the rest is for slow networks.
_FLUSHED = timedelta(seconds=30)


def database_lacks(uri: str, end: datetime) -> str:
    """Compare the database's own clock with the window's end: until then rows may still come.

    Where an application stamps rows and sends them later, until that much later.

    Raises:
        ChimeraError: The database can't be reached, or refuses the login.
    """
    now = clock(uri)
    readers = (intake.reader for intake in sources()["app_db"])
    end += timedelta(seconds=max(getattr(reader, "flush_seconds", 0) for reader in readers))
    return f"a clock at {now.isoformat(timespec='seconds')}" if now < end else ""


def logs_lack(root: LogRoot, end: datetime) -> str:
    """Check the window's last hour: its folder is marked as done, or none of its files grows.

    Raises:
        ConfigurationError: An object store refuses the key, or has no such bucket.
        SourceUnavailableError: The hour's folder can't be listed, or one of its files can't be
            read.
    """
    try:
        folder = root.hour(end - HOUR)
        written = [file.written_at() for file in folder.files if not file.fault]
    except SourceChangedError:
        return "files that are being rotated"
    if MARKER in folder.names:
        return ""
    quiet = datetime.now(UTC) - datetime.fromtimestamp(max([*written, end.timestamp()]), UTC)
    if quiet >= _QUIET:
        return ""
    return f"no {MARKER}, {len(written)} files, quiet for {quiet.total_seconds():.0f} s"


def metrics_lack(server: PrometheusServer, end: datetime) -> str:
    """Check the scrape lag: every live series must have a sample from the window's last step.

    Raises:
        ChimeraError: The server does not answer, or the window has not ended.
    """
    seconds = settling_seconds(end, datetime.now(UTC))
    if seconds:
        return f"two scrapes after the hour only in {seconds:.0f} s"
    seen, last = reach(server), end - timedelta(seconds=get_settings().scrape_step_seconds)
    return f"a newest sample at {seen.isoformat()}" if seen and seen < last else ""


def reports_lack(root: SourceRoot, end: datetime) -> str:
    """Check that reports can be listed; one that is written later belongs to a later hour.

    Raises:
        ConfigurationError: An object store refuses the key, or has no such bucket.
        SourceUnavailableError: The root can't be listed.
    """
    root.listed("", is_report)
    now = datetime.now(UTC)
    return f"a clock at {now.isoformat(timespec='seconds')}" if now < end else ""


def spans_lack(root: SourceRoot, end: datetime) -> str:
    """Check that spans can be listed, and that a Collector has had time to write the last ones.

    Raises:
        ConfigurationError: An object store refuses the key, or has no such bucket.
        SourceUnavailableError: The root can't be listed.
    """
    root.listed("", is_span_file)
    seconds = (end + _FLUSHED - datetime.now(UTC)).total_seconds()
    return f"spans still in a Collector, for {seconds:.0f} s" if seconds > 0 else ""


def records_lack(root: SourceRoot, end: datetime) -> str:
    """Check that files can be listed, and that those of the last minute have had time to come.

    Raises:
        ConfigurationError: An object store refuses the key, or has no such bucket.
        SourceUnavailableError: The root can't be listed.
    """
    root.listed("", is_record_file)
    seconds = (end + _FLUSHED - datetime.now(UTC)).total_seconds()
    return f"files still on their way, for {seconds:.0f} s" if seconds > 0 else ""


LACKS: Mapping[str, Callable[[Any, datetime], str]] = {
    "app_db": database_lacks,
    "api_logs": logs_lack,
    "prometheus": metrics_lack,
    "reports": reports_lack,
    "otel": spans_lack,
    "json": records_lack,
}
