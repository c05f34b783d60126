"""Real traces that come in pieces: overlapping, repeated, shuffled; each row ends there once."""

import random
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from include.chimera.demo.app_database import connect
from include.chimera.demo.recorded.replayed import ReplayedFeed
from include.chimera.window import HOUR, Run, Window
from tests.integration.ingest.pipeline import GENERATION, START, hour, ingest, rows, run_of

pytestmark = pytest.mark.integration
PIECES = 4


def azure_rows(folder):
    """Return both hours of Azure's traces as rows of the application."""
    feed = ReplayedFeed(folder, START)
    both = pa.concat_tables([feed.hour(hour(number)).tables["generations"] for number in range(2)])
    return both.filter(pc.equal(both["provider_id"], "azure"))


def pieces_of(table, chance):
    """Deal shuffled rows into pieces, each with some rows of the piece before it once more."""
    order = list(range(table.num_rows))
    chance.shuffle(order)
    size = len(order) // PIECES + 1
    for first in range(0, len(order), size):
        yield table.take(order[max(first - size // 4, 0) : first + size])


def test_azure_traces_in_shuffled_pieces_end_as_each_row_once(uri, traces_folder):
    """28,185 rows and their published token sums, whatever windows were read in between."""
    chance = random.Random(7)  # noqa: S311 - no secret
    both = Window(START, START + 2 * HOUR)
    for number, piece in enumerate(pieces_of(azure_rows(traces_folder), chance)):
        with connect(uri) as database:
            database.upsert("generations", piece)
            database.commit()
        windows = chance.sample([hour(0), hour(1), both], 2)
        for window in (*windows, windows[0]):
            name = f"backfill {number} {window.start} {window.end}"
            ingest(uri, Run(name, window, moves_watermark=False))
    for number in (1, 0):
        ingest(uri, run_of(number, f"last {number}", moves_watermark=False))
    found = rows(GENERATION, "generation_id, prompt_tokens, completion_tokens, _window_hour")
    row_ids, prompts, completions, hours = zip(*found, strict=True)
    assert len(set(row_ids)) == len(found) == 28_185
    assert (sum(prompts), sum(completions)) == (40_421_844, 4_334_561)
    assert Counter(hours) == {"20260105T08": 23_323, "20260105T09": 4_862}
