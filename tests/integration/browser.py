"""A real browser, and pictures small enough to be kept."""

import shutil
from contextlib import contextmanager

import pytest
from playwright.sync_api import sync_playwright

BROWSER = shutil.which("chromium-headless-shell") or shutil.which("chromium")
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="needs Debian's chromium-headless-shell or chromium"
)
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
LARGEST = 150_000  # bytes


@contextmanager
def browsing():
    """Start a browser; end it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER)
        yield browser
        browser.close()


def take(page, place):
    """Take a picture of what is in sight, as WebP."""
    page.screenshot(path=place, type="webp", quality=80, animations="disabled", caret="hide")
    assert place.stat().st_size < LARGEST, place
