"""Parts of the fleet page, found as a person finds them: by their roles and names."""

from __future__ import annotations

from urllib.parse import quote

from playwright.sync_api import Locator, Page, expect


def heading(page: Page) -> Locator:
    """The heading of the view."""
    return page.get_by_role("heading", level=1)


def content(page: Page) -> Locator:
    """The view, without what all views have."""
    return page.get_by_role("main")


def states(page: Page) -> Locator:
    """The numbers of groups by state."""
    return page.get_by_role("region", name="Groups by state")


def dialog_status(page: Page) -> Locator:
    """What the open dialog says about an order."""
    return page.get_by_role("dialog").get_by_role("status")


def newest_entry(page: Page) -> Locator:
    """The newest entry of a group's history."""
    history = page.locator("section").filter(has=page.get_by_role("heading", name="History: why it was retrained"))
    return history.get_by_role("listitem").first


def show(page: Page, address: str) -> None:
    """Load a view anew. From one view to another, Chromium would change the hash only."""
    page.goto("about:blank")
    page.goto(address)


def show_group(page: Page, url: str, key: str) -> None:
    """Load the page of a group anew."""
    show(page, f"{url}#/group/{quote(key)}")


def press_tab_until(page: Page, wanted: Locator) -> None:
    """Press Tab until an element has the focus. Raises AssertionError if it does not get it."""
    for _ in range(20):
        page.keyboard.press("Tab")
        if wanted.evaluate("(element) => element === document.activeElement"):
            return
    expect(wanted).to_be_focused()
