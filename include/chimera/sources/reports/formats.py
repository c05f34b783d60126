"""Recognise a report's tool by its content, whatever the file is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from include.chimera.sources.reports.avid import read_avid
from include.chimera.sources.reports.evaluations import (
    MALFORMED_REPORT,
    UNKNOWN_FORMAT,
    FileFault,
)
from include.chimera.sources.reports.garak import read_garak
from include.chimera.sources.reports.inspect_logs import read_inspect
from include.chimera.sources.reports.promptfoo import read_promptfoo, read_promptfoo_lines
from include.chimera.sources.stored.lines import decoded, json_lines, mapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from include.chimera.sources.reports.evaluations import Found, ReportOrigin

    Parser = Callable[[BinaryIO, ReportOrigin], Iterator[Found]]

_ZIP = b"PK\x03\x04"


class _Top(msgspec.Struct):
    """The names by which a document is told; their values do not matter."""

    entry_type: Any = None
    data_type: Any = None
    eval: msgspec.Raw = msgspec.Raw()
    results: msgspec.Raw = msgspec.Raw()
    success: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="promptIdx")


_TOP = msgspec.json.Decoder(_Top)


def _parser(top: _Top) -> Parser | None:
    if isinstance(top.entry_type, str):
        return read_garak
    if top.data_type == "AVID":
        return read_avid
    if top.eval:
        return read_inspect
    if top.success and top.prompt:
        return read_promptfoo_lines
    return read_promptfoo if top.results else None


def read_report(file: BinaryIO, origin: ReportOrigin) -> Iterator[Found]:
    """Yield what a report of any tool holds; a `FileFault` if no tool's form is recognised.

    Raises:
        CopyFaultError: It is a JSON document longer than 256 MiB.
    """
    file.seek(0)
    if file.read(len(_ZIP)) == _ZIP:
        yield from read_inspect(file, origin)
        return
    parser = _recognised(file)
    if isinstance(parser, FileFault):
        yield parser
    else:
        yield from parser(file, origin)


def _recognised(file: BinaryIO) -> Parser | FileFault:
    """Return the parser of a report's tool; nothing of the file stays in memory."""
    first = next(json_lines(file), None)
    begin = first.content if first else b""
    line = decoded(begin, _TOP)  # of JSON lines each is a document
    whole = decoded(mapped(file), _TOP) if line is None or _parser(line) is None else line
    top = whole or line
    if top and (parser := _parser(top)):
        return parser
    is_broken = begin.startswith(b"{") and line is whole is None
    return FileFault(MALFORMED_REPORT if is_broken else UNKNOWN_FORMAT)
