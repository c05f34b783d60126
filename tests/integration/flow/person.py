"""A person at the health page, in a browser: what is read there, and what is clicked."""

import re
import time

SECONDS, CLICKS = 10, 2


def words(page):
    """Return the text that is in sight or comes by scrolling; nothing that is folded."""
    return re.sub(r"\s+", " ", page.inner_text("body"))


def assert_understood(show, table, wanted):
    """Find what a person has to, in two clicks and ten seconds.

    Args:
        show: Opens the page of all tables, and returns it.
        table: The table that is to be found.
        wanted: All words that are to be read.
    """
    begin = time.monotonic()
    page = show()
    found, clicks = words(page), 0
    for link in (f'a[href$="/table/{table}"]', "text=What happened in the run"):
        if all(word in found for word in wanted):
            break
        page.locator(link).first.click()
        found, clicks = f"{found} {words(page)}", clicks + 1
    assert [word for word in wanted if word not in found] == []
    assert clicks <= CLICKS
    assert time.monotonic() - begin < SECONDS


def ask(page, button, reason, version=None):
    """Open a control's dialog, give a reason, and send it."""
    button.click()
    assert page.locator("dialog h2").inner_text() == button.inner_text() != ""
    page.click("dialog [type=submit]")
    assert page.locator("dialog").is_visible(), "a reason is required"
    page.fill("dialog [name=reason]", reason)
    if version is not None:
        assert page.input_value("dialog [name=version]") == str(version)
    else:
        assert page.locator("dialog [name=version]").is_hidden()
    page.click("dialog [type=submit]")


def done(page):
    page.wait_for_selector("#done:visible")
    return page.inner_text("#done")
