"""What differs between versions of tables, in words: for the terminal, and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.chimera.observe.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.operations.versions.preview import Preview, PreviewedTable
    from include.chimera.quality.row_differences import KeyExample, RowDifference

HEADINGS = ("table", "gate", "rows", "before", "added", "changed", "removed", "same", "s", "CPU s")
_LEFT = 2  # columns of text; the others are numbers
_MARKUP = "`*<>[]|@#&\\~!"
_MANY = 65_000  # GitHub's limit of a comment is 65,536 characters


def details_of(found: RowDifference) -> Iterator[str]:
    """Yield a line for each thing that counts of keys leave open."""
    for word, names in (("new", found.columns_added), ("lost", found.columns_removed)):
        if names:
            yield f"columns that are {word}: {', '.join(names)}"
    if found.columns:
        changed = (f"{name} ({count:,})" for name, count in found.columns.items())
        yield f"columns that changed: {', '.join(changed)}"
    if found.partitions:
        first, *_, last = (*found.partitions, *found.partitions)
        yield f"in {len(found.partitions):,} partitions, {first} to {last}; --json counts in each"
    for word, examples in found.examples.items():
        yield f"{word}, for example: {'; '.join(map(_example, examples))}"


def _example(example: KeyExample) -> str:
    key = ", ".join(f"{name}={text}" for name, text in example.key.items())
    values = ", ".join(f"{name}: {was} → {now}" for name, (was, now) in example.values.items())
    return f"{key} ({values})" if values else key


def cells_of(found: PreviewedTable) -> list[str]:
    """Return a table's cells, below `HEADINGS`."""
    difference = found.difference
    counts = (
        (
            *(difference.rows, difference.rows_before, difference.added),
            *(difference.changed, difference.removed, difference.same),
        )
        if difference
        else (None,) * 6
    )
    numbers = ("" if count is None else f"{count:,}" for count in counts)
    times = (f"{found.seconds:.1f}", f"{found.cpu_seconds:.1f}")
    return [found.table, found.outcome, *numbers, *times]


def notes_on(found: PreviewedTable) -> Iterator[str]:
    """Yield what a previewed table's cells leave open, without dbt's message."""
    if found.failed_rules:
        yield f"failed: {', '.join(found.failed_rules)}"
    if found.difference:
        if not found.difference.key:
            yield "compared by whole rows: nothing says what their key is"
        if found.difference.version is None:
            yield "nothing of this table is published yet"
        yield from details_of(found.difference)


def heading_of(preview: Preview) -> str:
    """Return what was compared, in a sentence or two."""
    hours = len(preview.window.labels())
    what = f"{len(preview.tables)} tables" if preview.tables else "No table"
    return (
        f"{what} built by changed code. Compared with run {preview.run_id}, in the "
        f"{hours} hours {preview.window}; {preview.seconds:.0f} s, "
        f"{preview.cpu_seconds:.0f} s of CPU."
    )


def removed_line(preview: Preview) -> str:
    """Return the line about models that are gone; "": there are none."""
    names = ", ".join(preview.removed)
    return f"No longer built, and left as they are: {names}" if names else ""


def markdown_of(preview: Preview) -> str:
    """Return a preview as the text of a pull request's comment.

    Of dbt's messages only that there was one is told: others may read the comment than the log.
    """
    lines = ["### What this change does to the tables", "", heading_of(preview), ""]
    if preview.tables:
        dashes = ["---"] * _LEFT + ["---:"] * (len(HEADINGS) - _LEFT)
        lines += [_row(HEADINGS), _row(dashes)]
        lines += [_row(map(_plain, cells_of(table))) for table in preview.tables] + [""]
    for table in preview.tables:
        notes = [*notes_on(table)]
        if table.message:
            notes.append("not built or judged; the job's log says why")
        if notes:
            lines += [f"**{_plain(table.table)}**", *(f"- {_plain(note)}" for note in notes), ""]
    if removed := removed_line(preview):
        lines += [_plain(removed), ""]
    text = "\n".join(lines)
    return text if len(text) < _MANY else f"{text[:_MANY]}\n\n… cut off\n"


def _row(cells: Iterator[str] | tuple[str, ...] | list[str] | map[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Escape what Markdown would take for markup, a mention or a link: keys are data."""
    flat = printable(" ".join(text.split()))
    escaped = "".join(f"&#{ord(sign)};" if sign in _MARKUP else sign for sign in flat)
    return escaped.replace("://", "&#58;//")
