"""Query Prometheus' HTTP API, with limits on an answer's bytes and time."""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import httpx
import msgspec

from include.chimera.errors import (
    ConfigurationError,
    ContractError,
    DataFaultError,
    SourceUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
# httpx limits each wait for a byte; a server that sends one every two seconds would hold a task.
_WHOLE_SECONDS = 100.0
_MOST_BYTES = 128 * 1024 * 1024  # an hour of 80,000 series at one-minute steps
_PACKINGS, _OTHER_PACKING = ("identity", "gzip"), "packed otherwise than asked for"
_PASSING = (408, 425, 429)
_NO_TRUST = ("TLSV1_ALERT_UNKNOWN_CA", "WRONG_VERSION_NUMBER")  # the latter: no TLS at all
_TYPES = ("matrix", "vector")
_WORD = re.compile(r"\w{1,40}", re.ASCII)


@dataclass(frozen=True)
class PrometheusServer:
    """A server with Prometheus' HTTP API.

    Args:
        url: Base URL, before `/api/v1`.
        headers: Sent with each request: a token, a tenant.
        login: Name and password of basic authentication; None: none.
        verify: False: any certificate is taken; a path: the file of the CAs to trust.
        certificate: The client's certificate: one file, or certificate and key.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    login: tuple[str, str] | None = field(default=None, repr=False)
    verify: bool | str = True
    certificate: tuple[str, ...] = ()


class _Data(msgspec.Struct):
    """An answer's data; each series stays JSON text until it is read."""

    resultType: str = ""  # noqa: N815 - Prometheus' name
    result: list[msgspec.Raw] | None = None


class _Answer(msgspec.Struct):
    """Prometheus' answer to any query."""

    status: str
    data: _Data | None = None
    errorType: str = ""  # noqa: N815 - Prometheus' name
    warnings: list[msgspec.Raw] = msgspec.field(default_factory=list)
    isPartial: bool = False  # noqa: N815 - VictoriaMetrics says so where Prometheus warns


class _Histogram(msgspec.Struct):
    """Detects native histograms in a series."""

    histograms: msgspec.Raw = msgspec.Raw()
    histogram: msgspec.Raw = msgspec.Raw()


_NO_JSON = (msgspec.MsgspecError, ValueError, RecursionError)
# After the handshake httpx lets a refusal by TLS pass as it is.
_NO_ANSWER = (httpx.TransportError, httpx.DecodingError, TimeoutError, ssl.SSLError, *_NO_JSON)
_ANSWER, _HISTOGRAM = msgspec.json.Decoder(_Answer), msgspec.json.Decoder(_Histogram)


def ask(
    server: PrometheusServer, endpoint: str, parameters: Mapping[str, str | float], where: str
) -> list[msgspec.Raw]:
    """Send a query and return the series of its complete answer, each as JSON text.

    Args:
        server: Its address and our login.
        endpoint: `query` or `query_range`.
        parameters: The query's parameters.
        where: The query, for messages.

    Raises:
        SourceUnavailableError: The server did not answer in time, or is unavailable.
        ConfigurationError: The server refuses the login, is not Prometheus, or its certificate or
            ours does not fit.
        DataFaultError: The server refused the query or warned that the answer may be partial, or
            the answer is too large.
        ContractError: The samples are native histograms.
    """
    return _ask(server, endpoint, parameters, where)[1]


def told_time(server: PrometheusServer, query: str) -> datetime | None:
    """Return the server's time (UTC, whole seconds) when it answers an instant query.

    None: its answer bears no date.

    Raises:
        ChimeraError: As `ask`.
    """
    date = _ask(server, "query", {"query": query}, "Prometheus, its time")[0].get("Date")
    return parsedate_to_datetime(date) if date else None


def _ask(
    server: PrometheusServer, endpoint: str, parameters: Mapping[str, str | float], where: str
) -> tuple[httpx.Headers, list[msgspec.Raw]]:
    try:
        answered, body = asyncio.run(_fetch(server, endpoint, parameters, where))
        _check_status(answered.status_code, where)
        answer = _ANSWER.decode(body)
    except _NO_ANSWER as error:
        fault = _certificate_fault(error)
        if fault:
            raise _certificates(fault, where) from None
        raise SourceUnavailableError(
            expected=f"a whole answer to {endpoint} within {_WHOLE_SECONDS:g} s",
            came=type(error).__name__,
            where=where,
            remedy="check that the server is up and the Airflow connection prometheus names it",
        ) from None  # the error's text may hold a part of the answer
    return answered.headers, _series(answer, where)


def _trust(server: PrometheusServer, where: str) -> ssl.SSLContext | bool:
    """Return what certificates are checked by; True: by httpx' own list of CAs."""
    if server.verify is True and not server.certificate:
        return True
    try:
        context = httpx.create_ssl_context(verify=server.verify is not False)
        if isinstance(server.verify, str):
            context = ssl.create_default_context(cafile=server.verify)
        if server.certificate:
            context.load_cert_chain(*server.certificate)
    except (OSError, TypeError) as error:
        raise _certificates(f"files that give {type(error).__name__}", where) from None  # noqa: EM102, TRY003 - a function
    return context


def _certificate_fault(error: BaseException | None) -> str:
    """Return OpenSSL's reason if certificates are why there is no answer; "": they are not."""
    while error is not None:
        reason = (isinstance(error, ssl.SSLError) and error.reason) or ""
        if "CERT" in reason or reason in _NO_TRUST:  # others, such as an end of file, may pass
            verdict = getattr(error, "verify_message", "")
            return f"{reason}: {verdict}" if verdict else reason
        error = error.__cause__ or error.__context__
    return ""


def _certificates(came: str, where: str) -> ConfigurationError:
    return ConfigurationError(
        expected="a TLS connection whose certificates are trusted",
        came=came,
        where=where,
        remedy="name the server's CA file as `verify`, and the client's certificate as `cert`, in "
        "the extra of the Airflow connection prometheus; both files must be on every worker",
    )


async def _fetch(
    server: PrometheusServer, endpoint: str, parameters: Mapping[str, str | float], where: str
) -> tuple[httpx.Response, bytearray]:
    """Return the response, whose own content is gone, and its body."""
    body = bytearray()
    async with (
        asyncio.timeout(_WHOLE_SECONDS),
        httpx.AsyncClient(
            base_url=server.url,
            timeout=_TIMEOUT,
            headers={**server.headers, "Accept-Encoding": "gzip"},
            auth=server.login,
            verify=_trust(server, where),
        ) as client,
        client.stream("GET", f"/api/v1/{endpoint}", params=dict(parameters)) as response,
    ):
        # httpx decompresses each chunk whole: up to 1,000 times its size if it was compressed once,
        # a million times if twice.
        if response.headers.get("Content-Encoding", "identity").lower() not in _PACKINGS:
            raise httpx.DecodingError(_OTHER_PACKING)
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > _MOST_BYTES:
                raise DataFaultError(
                    expected=f"an answer of at most {_MOST_BYTES >> 20} MiB",
                    came="a longer one",
                    where=where,
                    remedy="drop labels that make many series, or set a longer "
                    "CHIMERA_SCRAPE_STEP_SECONDS",
                )
    return response, body


def _check_status(status: int, where: str) -> None:
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in _PASSING:
        raise SourceUnavailableError(
            expected="status 200",
            came=f"status {status}",
            where=where,
            remedy="wait for the server to recover; the task retries by itself",
        )
    if status in (401, 403, 404) or httpx.codes.is_redirect(status):
        raise ConfigurationError(
            expected="a Prometheus server that lets us read",
            came=f"status {status}",
            where=where,
            remedy="correct host, port, path and login of the Airflow connection prometheus",
        )


def _series(answer: _Answer, where: str) -> list[msgspec.Raw]:
    data = answer.data or _Data()
    found = data.result
    if answer.status != "success" or answer.warnings or answer.isPartial or found is None:
        size = "no result" if found is None else "a part" if answer.isPartial else "a result"
        kind = _word(answer.errorType or "no error")
        raise DataFaultError(
            expected="a complete answer",
            came=f"{size}, {kind}, {len(answer.warnings)} warnings",
            where=where,
            remedy="ask the same query in Prometheus' own UI and mend what it names",
        )
    is_known = data.resultType in _TYPES
    if not is_known or any(map(_is_histogram, found)):
        raise ContractError(
            expected="float samples",
            came="native histograms" if is_known else _word(data.resultType),
            where=where,
            remedy="expose classic buckets (_bucket, _sum, _count) of this metric as well",
        )
    return found


def _is_histogram(series: msgspec.Raw) -> bool:
    try:
        found = _HISTOGRAM.decode(series)
    except _NO_JSON:
        return False  # the reader of the series refuses it
    return bool(bytes(found.histograms) or bytes(found.histogram))


def _word(text: str) -> str:
    """Return the server's text if it is a plain word, else only its length."""
    return text if _WORD.fullmatch(text) else f"{len(text)} characters that are no word"
