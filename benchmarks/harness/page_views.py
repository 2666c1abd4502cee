"""How long each view of the fleet page takes to appear in a browser."""

from __future__ import annotations

from urllib.parse import quote

from playwright.sync_api import Page, expect

from harness.page_fleet import key_of

VIEW_MS = 1_000
COLD, SOUGHT = 740, 123
"""Numbers of the group that is shown before any other, and of the one that is searched for."""


def plural(groups: int) -> str:
    """Return the number of groups as the page writes it."""
    return f"{groups:,} group{'' if groups == 1 else 's'}"


def milliseconds(page: Page, action: str, heading: str) -> float:
    """Return the time from an action until the page has this heading, at most 20 s. action: JavaScript.

    Measured in the page: each call of Playwright would add some milliseconds.
    """
    seen = f"document.querySelector('h1')?.innerText === {heading!r}"
    found: float = page.evaluate(
        f"async () => {{ const began = performance.now(); {action}; "
        f"while (!({seen}) && performance.now() - began < 20000) await new Promise(requestAnimationFrame); "
        "return performance.now() - began; }"
    )
    return found


def measure_views(page: Page, url: str) -> None:
    """Print the milliseconds of each view. No group may have been shown before. Raises AssertionError above VIEW_MS."""
    page.goto(f"{url}#/groups")
    expect(page.get_by_role("table", name="Groups")).to_be_visible()
    summary = page.evaluate("fetch('fleet.json').then((answer) => answer.json()).then((figures) => figures.summary)")
    cold, other = (f"location.hash = '#/group/{quote(key_of(n))}'" for n in (COLD, COLD + 1))
    for what, action, heading in (
        ("a group, the first of this server", cold, f"s{COLD:06}"),
        ("another group", other, f"s{COLD + 1:06}"),
        ("the first group again", cold, f"s{COLD:06}"),
        ("the pipeline", "location.hash = '#/pipeline'", "Pipeline"),
        ("all groups", "location.hash = '#/groups'", plural(summary["groups"])),
        ("groups that are stale", "location.hash = '#/groups?state=stale'", plural(summary["states"]["stale"])),
        ("the fleet", "location.hash = '#/'", plural(summary["groups"])),
        (
            "a search, 120 ms of which wait for more keys",
            f"query.value = 's{SOUGHT:06}'; query.dispatchEvent(new Event('input'))",
            plural(1),
        ),
    ):
        ms = milliseconds(page, action, heading)
        print(f"    {what}: {ms:.0f} ms")
        assert ms <= VIEW_MS, f"{what}: expected at most {VIEW_MS} ms; got {ms:.0f}"
