"""The fleet page in Chromium: clicks and keys on every page, what a screen reader finds, and screenshots.

Prints one line per check, and exits with 1 at the first one that fails. It needs Playwright (``make browser`` installs
it) and Chromium on the PATH (``apt-get install chromium``), so this is no part of ``make test``.

Run: ``python benchmarks/page_in_browser.py``; ``--folder`` as for page.py; ``--shots FOLDER`` keeps screenshots.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from harness.chromium import PHONE, SMALLEST, new_page, opened_browser
from harness.page_fleet import key_of, make_fleet
from harness.page_parts import content, dialog_status, heading, newest_entry, press_tab_until, show, show_group, states
from harness.page_server import served
from harness.page_views import measure_views, plural
from playwright.sync_api import Browser, Page, expect

from spinney.core.reporting.group_status import State
from spinney.fleet import Fleet
from spinney.gateway.authorization import guard_by_keys
from spinney.gateway.page.overrides import OverrideOrder, carry_out_order
from spinney.gateway.page.routes import Access
from spinney.operations.interventions import OverrideVerb
from spinney.storage.api_keys import KeyRing, add_key
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore
from spinney.storage.retrain_requests import read_requests, remove_requests

FIRST_PAINT_MS = 1_000
UPDATE_S = 90.0
POLL_S = 3.0
"""Seconds between two requests of the page for changes."""

GROUP, ASKED, ROLLED, SHOWN = 123, 120, 124, 140
ROUTES = ("", "#/groups", f"#/group/{quote(key_of(GROUP))}", "#/pipeline")

Check = Callable[[Page, str, Fleet], None]


def the_fleet_paints_within_a_second_and_agrees_with_fleet(page: Page, url: str, fleet: Fleet) -> None:
    page.goto(url)
    expect(states(page)).to_be_visible()
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    print(f"    first paint {painted:.0f} ms, figures shown by {page.evaluate('performance.now()'):.0f} ms")
    assert painted <= FIRST_PAINT_MS, f"first paint: expected at most {FIRST_PAINT_MS} ms; got {painted:.0f}"
    expect(states(page).locator("b")).to_have_text([f"{groups:,}" for groups in fleet.summary().states.values()])
    expect(page.get_by_role("banner")).to_contain_text(fleet.config.fleet.name)


def every_view_appears_within_a_second_also_the_first_group(page: Page, url: str, fleet: Fleet) -> None:
    del fleet
    measure_views(page, url)


def a_state_leads_to_its_groups(page: Page, url: str, fleet: Fleet) -> None:
    page.goto(url)
    states(page).get_by_role("link", name="refused").click()
    expect(heading(page)).to_have_text(plural(fleet.summary().states["refused"]))
    expect(page).to_have_url(f"{url}#/groups?state=refused")
    expect(page.get_by_role("combobox", name="State")).to_have_value("refused")
    pages = page.get_by_role("navigation", name="Pages of groups")
    pages.get_by_role("link", name="Next").click()
    expect(pages).to_contain_text("51 to 100")
    expect(page).to_have_url(f"{url}#/groups?state=refused&offset=50")


def search_works_from_the_keyboard(page: Page, url: str, fleet: Fleet) -> None:
    del fleet
    page.goto(url)
    expect(states(page)).to_be_visible()
    page.keyboard.press("/")
    search = page.get_by_role("searchbox", name="Search groups")
    expect(search).to_be_focused()
    page.keyboard.type(f"S{GROUP:06}")
    expect(heading(page)).to_have_text(plural(1))
    expect(search).to_be_focused()
    press_tab_until(page, content(page).get_by_role("link", name=f"s{GROUP:06}"))
    page.keyboard.press("Enter")
    expect(heading(page)).to_have_text(f"s{GROUP:06}")
    expect(content(page)).to_be_focused()


def the_first_key_skips_to_the_content(page: Page, url: str, fleet: Fleet) -> None:
    del fleet
    page.goto(f"{url}#/pipeline")
    expect(heading(page)).to_have_text("Pipeline")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport(ratio=1)
    page.keyboard.press("Enter")
    expect(content(page)).to_be_focused()
    expect(page).to_have_url(f"{url}#/pipeline")
    expect(heading(page)).to_have_text("Pipeline")


def a_search_is_told_at_once_and_keeps_the_state(page: Page, url: str, fleet: Fleet) -> None:
    page.goto(f"{url}#/groups?state=fresh")
    expect(page.get_by_role("table", name="Groups")).to_be_visible()
    search = page.get_by_role("searchbox", name="Search groups")
    for words in (f"s{GROUP:06}", "s00000"):
        search.clear()
        search.press_sequentially(words)
        fresh = plural(sum(each.state == State.FRESH and words in each.group_key for each in fleet.groups()))
        expect(heading(page)).to_have_text(fresh)
        expect(page.get_by_role("combobox", name="State")).to_have_value("fresh")
        expect(page.get_by_role("status")).to_have_text(f"{fresh} found")


def a_key_is_asked_for_and_nothing_is_lost_while_it_is_typed(page: Page, url: str, fleet: Fleet) -> None:
    del url
    store = FleetStore.of(fleet.config)
    (_, reader), (_, scorer) = add_key(store, "ada", ["read"]), add_key(store, "bea", ["score"])
    guard, field = guard_by_keys(KeyRing(store)), page.get_by_label("API key")
    with served(fleet.config, access=Access(guard.read, guard.operate)) as (guarded, _):
        page.goto(guarded)
        for key, told in (
            ("wrong", "not valid, or was revoked"),
            (scorer, "expected one with the scope read; got score"),
        ):
            expect(field).to_be_focused()
            page.keyboard.type(key[:5])
            page.wait_for_timeout((POLL_S + 0.5) * 1e3)
            expect(field).to_have_value(key[:5])
            page.keyboard.type(key[5:])
            page.keyboard.press("Enter")
            expect(content(page)).to_contain_text(told)
        expect(field).to_be_focused()
        page.keyboard.type(f"“{reader}”")
        page.keyboard.press("Enter")
        assert field.evaluate("(element) => element.validity.patternMismatch")
        field.fill(reader)
        page.get_by_role("button", name="Show the fleet").click()
        expect(states(page)).to_be_visible()
        page.goto(f"{guarded}#/group/{quote(key_of(GROUP))}")
        page.get_by_role("button", name="Pin", exact=True).click()
        expect(dialog_status(page)).to_contain_text("expected one with the scope operate; got read")


def confirm(page: Page, verb: str, reason: str) -> None:
    """Type a reason into the open dialog, in which its field has the focus, and order what was shown.

    Waits until the group's history has the reason.
    """
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name=verb, exact=True)).to_be_enabled()
    expect(dialog.get_by_label("Reason")).to_be_focused()
    page.keyboard.type(reason)
    dialog.get_by_role("button", name=verb, exact=True).click()
    expect(dialog).to_be_hidden()
    expect(newest_entry(page)).to_contain_text(reason)


def order(page: Page, verb: str) -> None:
    """Press the button of an override on a group's page."""
    content(page).get_by_role("button", name=verb, exact=True).click()


def a_group_is_pinned_and_unpinned_with_a_reason(page: Page, url: str, fleet: Fleet) -> None:
    key, dialog = key_of(GROUP), page.get_by_role("dialog")
    show_group(page, url, key)
    order(page, "Roll back")
    expect(dialog_status(page)).to_contain_text("→")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    order(page, "Pin")
    confirm(page, "Pin", "under <b>dispute</b>")
    status = page.get_by_role("region", name="Status")
    expect(status).to_contain_text("pinned")
    expect(content(page).locator("b")).to_have_count(0)
    last = [entry for entry in fleet.why(key).happened if entry["what"] == "pinned"][-1]
    assert last["by"] == "somebody", f"pinned by: expected 'somebody'; got {last['by']!r}"
    order(page, "Unpin")
    expect(dialog.get_by_role("button", name="Unpin")).to_be_enabled()
    page.keyboard.type("settled")
    press_tab_until(page, dialog.get_by_role("button", name="Unpin"))
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(status).to_contain_text("fresh")


def a_champion_is_rolled_back_and_promoted_again_with_reasons(page: Page, url: str, fleet: Fleet) -> None:
    key = key_of(ROLLED)
    before = fleet.why(key).standing.model_id or ""
    show_group(page, url, key)
    order(page, "Roll back")
    expect(dialog_status(page)).to_contain_text(f"{before[:8]} → ")
    confirm(page, "Roll back", "worse since Monday")
    expect_override(fleet, key, "worse since Monday")
    rolled_back_to = fleet.why(key).standing.model_id or ""
    assert rolled_back_to != before, f"rolled back: expected another model than {before}"
    order(page, "Promote a model")
    expect(page.get_by_role("combobox", name="Model")).to_be_focused()
    page.keyboard.type(before[:8])
    expect(dialog_status(page)).to_have_text(f"{rolled_back_to[:8]} → {before[:8]}")
    page.get_by_label("Reason").click()
    confirm(page, "Promote a model", "it was the data")
    expect_override(fleet, key, "it was the data")
    answering = fleet.why(key).standing.model_id
    assert answering == before, f"promoted: expected {before}; got {answering}"


def expect_override(fleet: Fleet, key: str, reason: str) -> None:
    """Raise AssertionError unless the newest entry of a group's history is one of the caller with this reason."""
    last = fleet.why(key).happened[-1]
    assert (last["by"], reason in last["said"]) == ("somebody", True), f"expected {reason!r} by 'somebody'; got {last}"


def a_round_under_way_and_the_budget_are_shown(page: Page, url: str, fleet: Fleet) -> None:
    (round_,) = fleet.pipeline().under_way
    name = f"Round {round_.round_id}, retraining {plural(round_.planned)}"
    for route in ("#/pipeline", ""):
        show(page, url + route)
        expect(content(page)).to_contain_text(f"{name}: began ")
        progress = page.get_by_role("progressbar", name=name)
        expect(progress).to_have_attribute("value", str(round_.attempted))
        expect(progress).to_have_attribute("max", str(round_.planned))
    expect(content(page)).to_contain_text(f"the budget of a round is {fleet.config.budget.seconds:g} s")


def the_error_of_a_group_has_marks_where_it_had_risen(page: Page, url: str, fleet: Fleet) -> None:
    for number in range(SHOWN, SHOWN + 1_000):
        happened, errors = fleet.why(key_of(number)).happened, fleet.group_figures(key_of(number)).errors
        shown = [entry for entry in happened if errors and errors[0].at <= entry["clock"] <= errors[-1].at]
        risen = sum(entry["what"] == "judged fit" and entry["policy"] == "error_rise" for entry in shown)
        replaced = sum(entry["what"] == "promoted" for entry in shown)
        if risen and replaced:
            break
    show_group(page, url, key_of(number))
    chart = page.get_by_role("img", name="Error: ")
    expect(chart.locator("path.risen")).to_have_count(risen)
    expect(chart.locator("line.replaced")).to_have_count(replaced)


def a_group_is_asked_for_once_with_a_reason(page: Page, url: str, fleet: Fleet) -> None:
    store = FleetStore.of(fleet.config)
    remove_requests(store, [request.id for request in read_requests(store)])
    show_group(page, url, key_of(ASKED))
    order(page, "Retrain now")
    dialog = page.get_by_role("dialog")
    expect(dialog_status(page)).to_contain_text("No stream is running")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    page.keyboard.type("overshoots since <i>noon</i>")
    dialog.get_by_role("button", name="Retrain now").click()
    expect(dialog).to_be_hidden()
    expect(content(page)).to_contain_text("overshoots since <i>noon</i>. Not carried out yet.")
    expect(page.get_by_role("button", name="Pin", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Retrain now")).to_have_count(0)
    expect(page.get_by_role("banner")).to_contain_text(fleet.config.fleet.name)
    (request,) = read_requests(store)
    assert (request.group_key, request.by) == (key_of(ASKED), "somebody"), f"got {request}"
    show(page, f"{url}#/pipeline")
    asked = page.get_by_role("table", name="Asked for by people")
    expect(asked).to_contain_text("overshoots since <i>noon</i>")
    expect(content(page)).to_contain_text("Behind Kafka: 1,250 records of sales")


def dead_letters_open_and_their_bytes_stay_text(page: Page, url: str, fleet: Fleet) -> None:
    del fleet
    page.goto(f"{url}#/pipeline")
    row = page.get_by_role("table", name="Dead letters").get_by_role("row").filter(has_text="not_json")
    row.get_by_text("Look inside").click()
    expect(row.locator("pre").first).to_have_text("<html><script>alert(1)</script></html>")
    expect(content(page).locator("script")).to_have_count(0)
    expect(content(page)).to_contain_text("Every event of the stream has its answer")


def a_change_appears_without_reload_and_keeps_the_place(page: Page, url: str, fleet: Fleet) -> None:
    page.goto(url)
    page.get_by_text("Show as a table").first.click()
    figures = content(page).get_by_role("table", name="Age of the champions")
    expect(figures).to_be_visible()
    page.evaluate("scrollTo(0, 300); window.isSame = true")
    number = next(n for n in range(GROUP + 1, GROUP + 1_000) if fleet.why(key_of(n)).standing.state == State.FRESH)
    store, key = FleetStore.of(fleet.config), key_of(number)
    proposed = carry_out_order(store, OverrideOrder(verb=OverrideVerb.PIN, group_key=key), "ada")
    pin = OverrideOrder(verb=OverrideVerb.PIN, group_key=key, reason="a check", seen=proposed.version)
    carry_out_order(store, pin, "ada")
    expect(content(page)).to_contain_text(f"s{number:06}", timeout=UPDATE_S * 1e3)
    expect(figures).to_be_visible()
    assert page.evaluate("window.isSame && scrollY === 300")


def every_control_has_a_name_and_every_chart_a_text_and_a_table(page: Page, url: str, fleet: Fleet) -> None:
    del fleet
    for route in ROUTES:
        show(page, url + route)
        expect(heading(page)).to_be_visible()
        page.wait_for_timeout(300)  # charts draw themselves once they have a width
        for control in page.locator("a, button, input, select, summary, progress, svg").all():
            expect(control).to_have_accessible_name(re.compile(r"\S"))
        expect(page.locator("figure:not(:has(details table))")).to_have_count(0)
        expect(page.locator("th:not([scope])")).to_have_count(0)
        expect(page.get_by_role("banner")).to_have_count(1)
        expect(content(page)).to_have_count(1)


def no_page_is_wider_than_a_phone(page: Page, url: str, fleet: Fleet) -> None:
    del fleet
    for size in (PHONE, SMALLEST):
        with new_page(browser_of(page), size) as phone:
            for route in ROUTES:
                show(phone, url + route)
                expect(heading(phone)).to_be_visible()
                assert phone.evaluate("document.documentElement.scrollWidth") == size[0], f"{route} at {size[0]}"


def browser_of(page: Page) -> Browser:
    found = page.context.browser
    assert found is not None
    return found


CHECKS: tuple[Check, ...] = (
    the_fleet_paints_within_a_second_and_agrees_with_fleet,
    every_view_appears_within_a_second_also_the_first_group,
    a_state_leads_to_its_groups,
    search_works_from_the_keyboard,
    the_first_key_skips_to_the_content,
    a_search_is_told_at_once_and_keeps_the_state,
    a_key_is_asked_for_and_nothing_is_lost_while_it_is_typed,
    a_group_is_pinned_and_unpinned_with_a_reason,
    a_champion_is_rolled_back_and_promoted_again_with_reasons,
    a_round_under_way_and_the_budget_are_shown,
    the_error_of_a_group_has_marks_where_it_had_risen,
    a_group_is_asked_for_once_with_a_reason,
    dead_letters_open_and_their_bytes_stay_text,
    a_change_appears_without_reload_and_keeps_the_place,
    every_control_has_a_name_and_every_chart_a_text_and_a_table,
    no_page_is_wider_than_a_phone,
)

UNCHANGING = 2
"""Number of the first checks, which measure a new server and change nothing. Screenshots are taken after them."""

REFUSALS = {a_key_is_asked_for_and_nothing_is_lost_while_it_is_typed: ("status of 401", "status of 403")}
"""Errors that a check provokes: Chromium logs each answer of these statuses."""

SHOTS = (
    ("page-fleet", "", (1200, 1180), False),
    ("page-group", f"#/group/{quote(key_of(SHOWN))}", (1200, 1100), True),
    ("page-pipeline", "#/pipeline", (1200, 1180), False),
    ("page-phone", "", PHONE, False),
)
"""Name of the file, route, width and height, whether dark."""


def take_screenshots(browser: Browser, url: str, folder: Path) -> None:
    """Write a screenshot for each of SHOTS."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, route, size, dark in SHOTS:
        with new_page(browser, size, dark=dark) as page:
            page.goto(url + route)
            expect(content(page).get_by_role("img").first).to_be_visible()
            page.wait_for_timeout(500)
            page.screenshot(path=folder / f"{name}.png")


def main() -> None:
    """Run the checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, help="keep the fleet here, and use the one that is here")
    parser.add_argument("--shots", type=Path, help="write screenshots into this folder")
    asked = parser.parse_args()
    with opened_browser() as browser:
        run_checks(browser, asked.folder or Path(tempfile.mkdtemp()), asked.groups, asked.shots)


def run_checks(browser: Browser, folder: Path, groups: int, shots: Path | None) -> None:
    """Run the checks on the fleet of a folder, which is made if there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "fleet.toml"
    config = read_config(file, {}) if file.exists() else make_fleet(folder, groups)
    with served(config) as (url, live):
        for number, check in enumerate(CHECKS):
            if number == UNCHANGING and shots:
                take_screenshots(browser, url, shots)
            with new_page(browser, allowed=REFUSALS.get(check, ())) as page:
                check(page, url, live.fleet)
            print(f"ok: {check.__name__.replace('_', ' ')}", flush=True)


if __name__ == "__main__":
    main()
