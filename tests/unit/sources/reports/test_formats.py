"""Reports are told by their content; what no tool wrote is told and stops nothing."""

from pathlib import Path

import pytest

from include.chimera.sources.reports.evaluations import FileFault
from include.chimera.sources.stored import lines
from include.chimera.sources.stored.local_copies import CopyFaultError
from tests.reading import found


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "unknown_format"),
        (b"some text", "unknown_format"),
        (b"[1, 2]", "unknown_format"),
        (b'{"some": "json"}', "unknown_format"),
        (b'{"version": 1, "status": ', "malformed_report"),
        (b'{"eval": {}, "results": 7', "malformed_report"),
        (b"PK\x03\x04 no archive", "malformed_report"),
        (b"\xff\xfe{\x00", "unknown_format"),
    ],
)
def test_file_of_no_tool_is_refused_whole(tmp_path: Path, content: bytes, reason: str) -> None:
    """Whatever lies in the folder, it is told and stops nothing."""
    assert found(tmp_path, content) == [FileFault(reason)]


def test_document_that_is_too_long_is_refused_by_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be read at once; lines are read one by one, however many there are."""
    monkeypatch.setattr(lines, "_DOCUMENT_BYTES", 20)
    with pytest.raises(CopyFaultError, match="json_over_256_mib"):
        found(tmp_path, b'{"results": [\n' + b"1, " * 20 + b"2]}")
    attempts = b'{"entry_type": "attempt", "status": 1}\n' * 20
    assert found(tmp_path, attempts)[-1] == FileFault("unfinished_run", 20)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "Infinity"])
def test_what_json_lacks_is_null(tmp_path: Path, number: str) -> None:
    """Some tools write it, between texts that say it, too."""
    said = f'"a text, {number} , [{number}]"'
    log = (
        f'{{"version": 2, "status": "success", "eval": {{"task": "t"}}, "results": {{"scores": '
        f'[{{"name": "s", "note": {said}, "metrics": {{"accuracy": {{"value":{number}}}}}}}]}}}}'
    )
    (row,) = found(tmp_path, log.encode())
    assert row.judge == "s"
    assert row.score is None
