"""The system's Chromium without a window, driven by Playwright: real clicks and keys, roles and names."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

try:
    from playwright.sync_api import Browser, Dialog, Page, expect, sync_playwright
except ModuleNotFoundError as error:
    raise SystemExit("browser: expected Playwright; got none. make browser installs it, and runs the checks") from error

NAMES = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_MS = 20_000
DESKTOP, PHONE, SMALLEST = (1280, 900), (360, 740), (320, 568)


@contextmanager
def opened_browser() -> Iterator[Browser]:
    """Start Chromium. Raises SystemExit: there is none on the PATH."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        raise SystemExit(
            f"browser: expected one of {', '.join(NAMES)} on the PATH; got none. Install it (Debian, Ubuntu: apt-get "
            "install chromium), then run this again"
        )
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program) as browser:
        yield browser


@contextmanager
def new_page(
    browser: Browser, size: tuple[int, int] = DESKTOP, *, dark: bool = False, allowed: tuple[str, ...] = ()
) -> Iterator[Page]:
    """Open a page that shares nothing with others, as in a private window. size: width and height in CSS pixels.

    Up to a phone's width the page behaves as on a phone. Raises AssertionError at the end if the page has raised or
    logged an error, unless its text contains one of `allowed`, or if it has opened a message box.
    """
    errors: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        errors.append(f"a message box: {dialog.message}")
        dialog.dismiss()

    with browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        is_mobile=size[0] <= PHONE[0],
        color_scheme="dark" if dark else "light",
    ) as context:
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(error.message))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("dialog", dismiss)
        yield page
    if found := [error for error in errors if not any(text in error for text in allowed)]:
        raise AssertionError(f"expected no errors on the page; got {found}")
