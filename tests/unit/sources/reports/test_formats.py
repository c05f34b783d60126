"""Reports are told by their content; what no tool wrote is told and stops nothing."""

from pathlib import Path

import pytest

from include.chimera.sources.reports.evaluations import FileFault
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
