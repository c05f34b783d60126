"""Data can't control the reader's terminal."""

import pytest

from include.chimera.observe.terminal import make_console, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünï 日本", "plain ünï 日本"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[2J\x1b]0;title\x07", r"\u001b[2J\u001b]0;title\u0007"),
        ("\x9b31m \x7f \r \x08", r"\u009b31m \u007f \u000d \u0008"),
        ("\u202egnp.exe \u2066", r"\u202egnp.exe \u2066"),
    ],
)
def test_control_and_formatting_characters_are_shown_not_obeyed(text: str, shown: str) -> None:
    """A payload that clears the screen or reverses the text is shown as plain text."""
    assert printable(text) == shown


def test_square_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """A reason such as `[/x]` once broke the list of letters for good."""
    make_console().print("[/x] [red]stop[/red] :boom:")
    assert capsys.readouterr().out == "[/x] [red]stop[/red] :boom:\n"
