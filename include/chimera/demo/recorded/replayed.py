"""Real traces, replayed over two consecutive hours: rows of app.generations and app.evaluations.

The first hour requested is the anchor. Azure's two UTC hours keep their offsets within the hour.
Data without times is spread evenly, in file order: llmperf over the first hour, the red team's
scores over both. Hours after the second are empty.
"""

from __future__ import annotations

import csv
import json
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from include.chimera.demo.feed import EVALUATIONS, GENERATIONS, HourData, row_ids, rows_within
from include.chimera.demo.recorded.prices import listed_models
from include.chimera.demo.recorded.streams import access_lines, availability, spread
from include.chimera.errors import ConfigurationError
from include.chimera.window import HOUR, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from include.chimera.demo.recorded.streams import TimedLine

SPAN_HOURS = 2
AZURE_FIRST_HOUR = datetime(2023, 11, 16, 18)  # noqa: DTZ001 -- the trace's times are naive UTC
AZURE_FILES = {
    "azure/code": "azure-llm-2023/AzureLLMInferenceTrace_code.csv",
    "azure/conv": "azure-llm-2023/AzureLLMInferenceTrace_conv.csv",
}
LLMPERF_FILES = "llmperf/individual/*.json"
SCORES_FILE = "jailbreakbench/scores.csv"
ACCESS_LOG_FILE = "access-logs/apache_combined.log.gz"
UP_FILES = "prometheus-query-range/*.json"
PRICES_FILE = "llm-prices/genai-prices.data.json"
PATTERNS = (
    *AZURE_FILES.values(),
    LLMPERF_FILES,
    SCORES_FILE,
    ACCESS_LOG_FILE,
    UP_FILES,
    PRICES_FILE,
)
JUDGE = "jailbreakbench"
"""The benchmark's own classifier; which one differs by file, and the scores do not say."""


class ReplayedFeed:
    """Replays a folder of traces from an anchor hour on.

    Args:
        folder: The traces, laid out as `PATTERNS` says.
        anchor: The replay's first hour.

    Raises:
        ConfigurationError: The folder lacks a file that the replay reads.
    """

    fingerprint = "traces"

    def __init__(self, folder: Path, anchor: datetime) -> None:
        missing = [pattern for pattern in PATTERNS if not any(folder.glob(pattern))]
        if missing:
            raise ConfigurationError(
                expected=f"these trace files: {', '.join(PATTERNS)}",
                came=f"a folder without {', '.join(missing)}",
                where=f"{folder} (CHIMERA_TRACES)",
                remedy="point CHIMERA_TRACES at the traces, or unset it to use the generator",
            )
        self._folder, self._anchor = folder, anchor

    def models(self) -> pa.Table:
        """Return the price list, and unpriced rows for the traces' other models."""
        mentioned = {
            (row["provider_id"], row["model_id"])
            for table in (self._generations, self._evaluations)
            for row in table.select(["provider_id", "model_id"]).to_pylist()
        }
        return listed_models(self._folder / PRICES_FILE, mentioned, self._anchor)

    def hour(self, window: Window) -> HourData:
        """Return the data of the one hour that `window` spans."""
        return HourData(
            tables={
                "generations": rows_within(self._generations, "created_at", window),
                "evaluations": rows_within(self._evaluations, "created_at", window),
            },
            log_lines=[
                line for moment, line in self._log_lines if window.start <= moment < window.end
            ],
            families=availability(self._up_files, self._replay, window),
        )

    def settlements(self, window: Window) -> pa.Table:  # noqa: ARG002 -- the Feed's signature
        """Return no rows: a trace holds each row once, in its final state."""
        return GENERATIONS.empty_table()

    @property
    def _replay(self) -> Window:
        return Window(self._anchor, self._anchor + SPAN_HOURS * HOUR)

    @property
    def _up_files(self) -> list[Path]:
        return sorted(self._folder.glob(UP_FILES))

    @cached_property
    def _log_lines(self) -> list[TimedLine]:
        return access_lines(self._folder / ACCESS_LOG_FILE, self._replay)

    @cached_property
    def _generations(self) -> pa.Table:
        rows: list[dict[str, object]] = []
        for model_id, name in AZURE_FILES.items():
            rows.extend(_azure_rows(self._folder / name, model_id, self._anchor))
        rows.extend(_llmperf_rows(sorted(self._folder.glob(LLMPERF_FILES)), self._anchor))
        return pa.Table.from_pylist(rows, schema=GENERATIONS).sort_by("created_at")

    @cached_property
    def _evaluations(self) -> pa.Table:
        rows = list(_score_rows(self._folder / SCORES_FILE, self._replay))
        return pa.Table.from_pylist(rows, schema=EVALUATIONS)


def _azure_rows(path: Path, model_id: str, anchor: datetime) -> Iterator[dict[str, object]]:
    """Yield one row per request; the trace has only times and tokens."""
    rows = _csv_rows(path)
    ids = row_ids(f"traces/{model_id}", range(len(rows)))
    for row, row_id in zip(rows, ids, strict=True):
        moment = datetime.fromisoformat(row["TIMESTAMP"][:26])  # 100 ns, truncated to microseconds
        created_at = anchor + (moment - AZURE_FIRST_HOUR)
        yield {
            "generation_id": row_id,
            "created_at": created_at,
            "updated_at": created_at,
            "provider_id": "azure",
            "model_id": model_id,
            "prompt_tokens": int(row["ContextTokens"]),
            "completion_tokens": int(row["GeneratedTokens"]),
            "status": "succeeded",
        }


def _llmperf_rows(paths: Sequence[Path], anchor: datetime) -> Iterator[dict[str, object]]:
    """Yield one row per benchmark request.

    Upstream writes 0 s as the times of a failed request; they were not measured, so use null.
    """
    requests = [
        (path.stem, number, request)
        for path in paths
        for number, request in enumerate(json.loads(path.read_text()))
    ]
    moments = spread(len(requests), Window.of_hour(anchor))
    for (run, number, request), moment in zip(requests, moments, strict=True):
        provider, _, size = run.partition("_")
        code = request["error_code"]
        yield {
            "generation_id": row_ids(f"traces/llmperf/{run}", [number])[0],
            "created_at": moment,
            "updated_at": moment,
            "provider_id": provider,
            "model_id": f"{provider}/llama-2-{size}",
            "prompt_tokens": request["number_input_tokens"],
            "completion_tokens": request["number_output_tokens"],
            "latency_ms": _millis(request["end_to_end_latency_s"], has_failed=code is not None),
            "ttft_ms": _millis(request["ttft_s"], has_failed=code is not None),
            "status": "succeeded" if code is None else "failed",
            "error_code": None if code is None else str(code),
        }


def _millis(seconds: float | None, *, has_failed: bool) -> float | None:
    if seconds is None or (has_failed and seconds == 0):
        return None
    return seconds * 1000


def _score_rows(path: Path, replay: Window) -> Iterator[dict[str, object]]:
    """Yield one row per evaluated behaviour.

    Technique and model differ in each of the 18 artifacts, so the technique's name needs no suffix
    for its kind of attack. A behaviour is identified by its index, because two of the hundred are
    spelled in two ways.
    """
    rows = _csv_rows(path)
    for number, (row, moment) in enumerate(zip(rows, spread(len(rows), replay), strict=True)):
        provider = row["evaluation_llm_provider"]
        yield {
            "evaluation_id": row_ids("traces/jailbreakbench", [number])[0],
            "created_at": moment,
            "updated_at": moment,
            "provider_id": provider,
            "model_id": f"{provider}/{row['model']}",
            "framework": "jailbreakbench",
            "technique": row["technique"],
            "behaviour_id": f"jbb-{int(row['index']):03d}",
            "iterations": int(row["number_of_queries"]) if row["number_of_queries"] else None,
            "successes": int(row["jailbroken"] == "True"),
            "judge": JUDGE,
            "status": "completed",
        }


def _csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
