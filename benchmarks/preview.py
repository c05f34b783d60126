"""How long a preview of ten changed models of fifty takes, beside one `dbt build` of them all.

`python -m benchmarks.preview [--json PATH] [--rows 5000]`. The project is a copy, whose marts are
copied under other names, with contracts, tests, rules and suites of their own, until there are
fifty models. Production is six hours of the sample's rows.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from benchmarks.records import Record, hand_on
from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.window import HOUR, Window

MODELS, CHANGED, HOURS = 50, 10, 6
LIMIT_SECONDS = 60
COPIED = {
    "fct_generations": "hourly",
    "fct_api_requests": "hourly",
    "agg_provider_hourly": "hourly",
    "agg_usage_daily": "daily",
}


def multiply(root: Path, count: int) -> list[str]:
    """Copy marts of a copied project until it has so many models; return the copies' names.

    Args:
        root: The copy's root.
        count: Models, those that are no table included.
    """
    models, rules = root / "include/dbt/models", root / "include/gx/rules"
    missing = count - len(list(models.rglob("*.sql")))
    names, sources = [], list(COPIED.items())
    for number in range(missing):
        source, folder = sources[number % len(sources)]
        name = f"{source}_{number}"
        place = models / "marts" / folder
        described = yaml.safe_load((place / f"_{folder}__models.yml").read_text())["models"]
        model: dict[str, Any] = next(each for each in described if each["name"] == source)
        shutil.copy(place / f"{source}.sql", place / f"{name}.sql")
        (place / f"{name}.yml").write_text(yaml.safe_dump({"models": [{**model, "name": name}]}))
        shutil.copy(rules / f"gold.{source}.yml", rules / f"gold.{name}.yml")
        names.append(name)
    subprocess.run([sys.executable, "-m", "include.chimera", "suites"], cwd=root, check=True)
    return names


def change(root: Path, names: list[str]) -> None:
    """Change models so that tests and gates pass: what a column counts, where it can."""
    for name in names:
        (place,) = (root / "include/dbt/models").rglob(f"{name}.sql")
        text = place.read_text().replace(" status,\n", " upper(status) as status,\n")
        place.write_text(f"{text}-- changed\n")


def main() -> None:
    """Measure and hand on the record."""
    # They read the environment of tests.
    from tests.integration.operations import published  # noqa: PLC0415

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=int, default=5000)
    options = parser.parse_args()
    first = datetime(2026, 1, 5, 8, tzinfo=UTC)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        (state / "head").mkdir()
        head = published.change_in(state / "head", published.start(state))
        names = multiply(head.root, MODELS)
        published.git(head.root, "add", "--all")
        published.git(head.root, "commit", "--quiet", "--message", "fifty models")
        with published.here(state):
            published.publish_feed(
                GeneratedFeed(options.rows),
                [Window.of_hour(first + number * HOUR) for number in range(HOURS)],
            )
            begun = time.monotonic()
            published.build_all(head.environment, head.root)
            whole = time.monotonic() - begun
        change(head.root, names[:CHANGED])
        begun = time.monotonic()
        found = head.preview("--base", "HEAD")
        seconds = time.monotonic() - begun
    if len(found["tables"]) != CHANGED:
        sys.exit(f"{len(found['tables'])} tables were built, not {CHANGED}")
    title = f"preview of {CHANGED} changed models of {MODELS}"
    hand_on(
        [
            Record(title, "dbt build of all", seconds / whole, seconds, "s"),
            Record(title, f"{LIMIT_SECONDS} s", seconds / LIMIT_SECONDS, seconds, "s", 1.0),
        ],
        options.json,
    )


if __name__ == "__main__":
    main()
