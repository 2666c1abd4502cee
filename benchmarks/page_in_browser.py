"""The fleet page in Chromium: clicks and keys on every page, what a screen reader finds, and screenshots.

Prints one line per check, and exits with 1 at the first one that fails. Chromium must be on the PATH
(``apt-get install chromium``), so this is no part of ``make test``.

Run: ``python benchmarks/page_in_browser.py``; ``--folder`` as for page.py; ``--shots FOLDER`` keeps screenshots.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness.browser import BrowserError, Page, opened_browser
from harness.page_fleet import key_of, make_fleet
from harness.page_server import served
from harness.page_views import measure_views, plural

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

DESKTOP, PHONE, SMALLEST = (1280, 900), (360, 740), (320, 568)
FIRST_PAINT_MS = 1_000
UPDATE_S = 90.0
GROUP, ASKED, ROLLED, SHOWN = 123, 120, 124, 140

Check = Callable[[Page, str, Fleet], None]


def expect(page: Page, expression: str, expected: object) -> None:
    """Raise BrowserError unless an expression has this value."""
    found = page.value(expression)
    if found != expected:
        raise BrowserError(f"{expression}: expected {expected!r}; got {found!r}")


def text_of(selector: str) -> str:
    """The expression for the text of the first element."""
    return f"document.querySelector({selector!r})?.innerText"


def the_fleet_paints_within_a_second_and_agrees_with_fleet(page: Page, url: str, fleet: Fleet) -> None:
    page.open(url)
    page.wait_for("document.querySelector('.states')")
    painted = page.value("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    shown = page.value("performance.now()")
    print(f"    first paint {painted:.0f} ms, figures shown by {shown:.0f} ms")
    if painted > FIRST_PAINT_MS:
        raise BrowserError(f"first paint: expected at most {FIRST_PAINT_MS} ms; got {painted:.0f}")
    states = fleet.summary().states
    expect(page, "[...document.querySelectorAll('.states b')].map((e) => Number(e.innerText.replaceAll(',', '')))",
           list(states.values()))  # fmt: skip
    expect(page, text_of("#fleet-name"), fleet.config.fleet.name)


def every_view_appears_within_a_second_also_the_first_group(page: Page, url: str, fleet: Fleet) -> None:
    del fleet
    measure_views(page, url)


def a_state_leads_to_its_groups(page: Page, url: str, fleet: Fleet) -> None:
    page.open(url)
    page.click(".states a", "refused")
    page.wait_for("location.hash === '#/groups?state=refused' && document.querySelector('tbody tr')")
    refused = fleet.summary().states["refused"]
    expect(page, text_of("h1"), f"{refused:,} groups")
    expect(page, "document.querySelector('select').value", "refused")
    page.click("nav.pages a", "Next")
    page.wait_for("location.hash.includes('offset=50')")
    page.wait_for(f"{text_of('nav.pages')}.includes('51 to 100')")


def search_works_from_the_keyboard(page: Page, url: str, fleet: Fleet) -> None:
    del fleet
    page.open(url)
    page.wait_for("document.querySelector('.states')")
    page.type("/")
    expect(page, "document.activeElement.id", "query")
    page.type(f"S{GROUP:06}")
    page.wait_for(f"{text_of('h1')} === '1 group'")
    expect(page, "document.activeElement.id", "query")
    while page.value("document.activeElement.matches('td a')") is not True:
        page.press("Tab", 9)
    page.press("Enter", 13, "\r")
    page.wait_for(f"{text_of('h1')} === 's{GROUP:06}'")
    expect(page, "document.activeElement.id", "main")


def the_first_key_skips_to_the_content(page: Page, url: str, fleet: Fleet) -> None:
    del fleet
    page.open(url)
    page.wait_for("document.querySelector('.states')")
    page.press("Tab", 9)
    expect(page, "document.activeElement.className", "skip")
    expect(page, "document.activeElement.getBoundingClientRect().left >= 0", expected=True)
    page.open(f"{url}#/pipeline")
    page.wait_for(f"{text_of('h1')} === 'Pipeline'")
    page.value("document.querySelector('.skip').focus()")
    page.press("Enter", 13, "\r")
    page.wait_for("document.activeElement.id === 'main'")
    expect(page, f"location.hash + {text_of('h1')}", "#/pipelinePipeline")


def a_search_is_told_at_once_and_keeps_the_state(page: Page, url: str, fleet: Fleet) -> None:
    page.open(f"{url}#/groups?state=fresh")
    page.wait_for("document.querySelector('tbody tr')")
    page.type("/")
    for words in (f"s{GROUP:06}", "s00000"):
        page.value("query.value = ''; query.focus()")
        page.type(words)
        fresh = [each for each in fleet.groups() if each.state == State.FRESH and words in each.group_key]
        page.wait_for(f"{text_of('h1')} === {plural(len(fresh))!r}")
        expect(page, "document.querySelector('select').value", "fresh")
        expect(page, text_of("#announcement"), plural(len(fresh)) + " found")


def a_key_is_asked_for_and_nothing_is_lost_while_it_is_typed(page: Page, url: str, fleet: Fleet) -> None:
    del url
    store = FleetStore.of(fleet.config)
    (_, reader), (_, scorer) = add_key(store, "ada", ["read"]), add_key(store, "bea", ["score"])
    guard = guard_by_keys(KeyRing(store))
    with served(fleet.config, access=Access(guard.read, guard.operate)) as (guarded, _):
        page.open(guarded)
        for key, told in (
            ("wrong", "not valid, or was revoked"),
            (scorer, "expected one with the scope read; got score"),
        ):
            page.wait_for("document.activeElement?.id === 'api-key'")
            page.type(key[:5])
            time.sleep(3.5)  # the page asks for changes every 3 s
            expect(page, "document.activeElement.value", key[:5])
            page.type(key[5:])
            page.press("Enter", 13, "\r")
            page.wait_for(f"{text_of('form h1 + p')}.includes({told!r})")
        page.wait_for("document.activeElement?.id === 'api-key'")
        page.type(f"“{reader}”")
        page.press("Enter", 13, "\r")
        expect(page, "document.activeElement.validity.patternMismatch", expected=True)
        page.value("document.activeElement.value = ''")
        page.type(reader)
        page.press("Enter", 13, "\r")
        page.wait_for("document.querySelector('.states')")
        page.open(f"{guarded}#/group/{key_of(GROUP)}")
        page.click(".actions button", "Pin")
        page.wait_for(f"{text_of('dialog [role=status]')}.includes('expected one with the scope operate; got read')")
        page.value("sessionStorage.clear()")
    page.errors[:] = [error for error in page.errors if "status of 401" not in error and "status of 403" not in error]


def a_group_is_pinned_and_unpinned_with_a_reason(page: Page, url: str, fleet: Fleet) -> None:
    key = key_of(GROUP)
    page.open(f"{url}#/group/{key}")
    page.click(".actions button", "Roll back")
    page.wait_for(f"{text_of('dialog [role=status]')}.includes('→')")
    expect(page, "document.activeElement.id", "reason")
    page.press("Escape", 27)
    page.wait_for("!document.querySelector('dialog').open")
    page.click(".actions button", "Pin")
    page.wait_for("!document.querySelector('dialog .primary').disabled")
    page.type("under <b>dispute</b>")
    page.click("dialog .primary", "Pin")
    page.wait_for("!document.querySelector('dialog').open")
    page.wait_for(f"{text_of('.timeline li')}.includes('under <b>dispute</b>')")
    page.wait_for(f"{text_of('.figures')}.includes('pinned')")
    expect(page, "document.querySelectorAll('main b').length", 0)
    last = [entry for entry in fleet.why(key).happened if entry["what"] == "pinned"][-1]
    if last["by"] != "somebody":
        raise BrowserError(f"pinned by: expected 'somebody'; got {last['by']!r}")
    page.click(".actions button", "Unpin")
    page.wait_for("!document.querySelector('dialog .primary').disabled")
    page.type("settled")
    page.press("Tab", 9)
    page.press("Tab", 9)
    page.press("Enter", 13, "\r")
    page.wait_for("!document.querySelector('dialog').open")
    page.wait_for(f"{text_of('.figures')}.includes('fresh')")


def a_champion_is_rolled_back_and_promoted_again_with_reasons(page: Page, url: str, fleet: Fleet) -> None:
    key = key_of(ROLLED)
    before = fleet.why(key).standing.model_id or ""
    page.open(f"{url}#/group/{key}")
    page.click(".actions button", "Roll back")
    page.wait_for(f"{text_of('dialog [role=status]')}.includes('{before[:8]} → ')")
    page.wait_for("!document.querySelector('dialog .primary').disabled")
    give_reason(page, "Roll back", "worse since Monday")
    expect_override(fleet, key, "worse since Monday")
    rolled_back_to = fleet.why(key).standing.model_id or ""
    if rolled_back_to == before:
        raise BrowserError(f"rolled back: expected another model than {before}")
    page.click(".actions button", "Promote a model")
    page.wait_for("document.activeElement.matches('dialog select')")
    page.type(before[:8])
    page.wait_for(f"{text_of('dialog [role=status]')} === '{rolled_back_to[:8]} → {before[:8]}'")
    page.wait_for("!document.querySelector('dialog .primary').disabled")
    page.click("#reason")
    give_reason(page, "Promote a model", "it was the data")
    expect_override(fleet, key, "it was the data")
    if fleet.why(key).standing.model_id != before:
        raise BrowserError(f"promoted: expected {before}; got {fleet.why(key).standing.model_id}")


def give_reason(page: Page, verb: str, reason: str) -> None:
    """Type a reason into the open dialog, confirm, and wait until the group's history has it."""
    page.type(reason)
    page.click("dialog .primary", verb)
    page.wait_for("!document.querySelector('dialog').open")
    page.wait_for(f"{text_of('.timeline li')}.includes('{reason}')")


def expect_override(fleet: Fleet, key: str, reason: str) -> None:
    """Raise BrowserError unless the newest entry of a group's history is one of the caller with this reason."""
    last = fleet.why(key).happened[-1]
    if last["by"] != "somebody" or reason not in last["said"]:
        raise BrowserError(f"override: expected one by 'somebody' with {reason!r}; got {last}")


def a_round_under_way_and_the_budget_are_shown(page: Page, url: str, fleet: Fleet) -> None:
    (round_,) = fleet.pipeline().under_way
    expected = f"Round {round_.round_id}, retraining {plural(round_.planned)}: began "
    for route in ("", "#/pipeline"):
        page.open("about:blank")
        page.open(url + route)
        page.wait_for(f"{text_of('main')}.includes({expected!r})")
        expect(page, "[...document.querySelectorAll('progress')].map((e) => [e.value, e.max])",
               [[round_.attempted, round_.planned]])  # fmt: skip
    page.open(url)
    page.wait_for(f"{text_of('main')}.includes('the budget of a round is {fleet.config.budget.seconds:g} s')")


def the_error_of_a_group_has_marks_where_it_had_risen(page: Page, url: str, fleet: Fleet) -> None:
    for number in range(SHOWN, SHOWN + 1_000):
        happened, errors = fleet.why(key_of(number)).happened, fleet.group_figures(key_of(number)).errors
        shown = [entry for entry in happened if errors and errors[0].at <= entry["clock"] <= errors[-1].at]
        risen = sum(entry["what"] == "judged fit" and entry["policy"] == "error_rise" for entry in shown)
        replaced = sum(entry["what"] == "promoted" for entry in shown)
        if risen and replaced:
            break
    page.open(f"{url}#/group/{key_of(number)}")
    page.wait_for("document.querySelector('main svg .risen')")
    kinds = "['path.risen', 'line.replaced'].map((kind) => document.querySelectorAll(`main svg ${kind}`).length)"
    expect(page, kinds, [risen, replaced])


def a_group_is_asked_for_once_with_a_reason(page: Page, url: str, fleet: Fleet) -> None:
    store = FleetStore.of(fleet.config)
    remove_requests(store, [request.id for request in read_requests(store)])
    page.open(f"{url}#/group/{key_of(ASKED)}")
    page.click(".actions button", "Retrain now")
    page.wait_for(f"{text_of('dialog [role=status]')}.includes('No stream is running')")
    expect(page, "document.activeElement.id", "reason")
    page.wait_for("!document.querySelector('dialog .primary').disabled")
    page.type("overshoots since <i>noon</i>")
    page.click("dialog .primary", "Retrain now")
    page.wait_for("!document.querySelector('dialog').open")
    page.wait_for(f"{text_of('main')}.includes('overshoots since <i>noon</i>. Not carried out yet.')")
    offered = "[...document.querySelectorAll('main .actions button')].map((e) => e.innerText)"
    expect(page, f"{offered}.includes('Retrain now')", expected=False)
    expect(page, text_of("#fleet-name"), fleet.config.fleet.name)
    (request,) = read_requests(store)
    if (request.group_key, request.by) != (key_of(ASKED), "somebody"):
        raise BrowserError(f"request: expected one of somebody for {key_of(ASKED)}; got {request}")
    page.open(f"{url}#/pipeline")
    page.wait_for(f"{text_of('main')}.includes('overshoots since <i>noon</i>')")
    page.wait_for(f"{text_of('main')}.includes('Behind Kafka: 1,250 records of sales')")


def dead_letters_open_and_their_bytes_stay_text(page: Page, url: str, fleet: Fleet) -> None:
    del fleet
    page.open(f"{url}#/pipeline")
    page.click("tr summary", "Look inside")
    page.wait_for("document.querySelector('td pre')")
    page.wait_for("document.body.innerText.includes('Every event of the stream has its answer')")


def a_change_appears_without_reload_and_keeps_the_place(page: Page, url: str, fleet: Fleet) -> None:
    page.open(url)
    page.click("main details summary", "Show as a table")
    page.wait_for("document.querySelector('main details').open")
    page.value("scrollTo(0, 300); window.isSame = true")
    number = next(n for n in range(GROUP + 1, GROUP + 1_000) if fleet.why(key_of(n)).standing.state == State.FRESH)
    other = key_of(number)
    proposed = carry_out_order(
        FleetStore.of(fleet.config), OverrideOrder(verb=OverrideVerb.PIN, group_key=other), "ada"
    )
    order = OverrideOrder(verb=OverrideVerb.PIN, group_key=other, reason="a check", seen=proposed.version)
    carry_out_order(FleetStore.of(fleet.config), order, "ada")
    page.wait_for(f"{text_of('main')}.includes('s{number:06}')", UPDATE_S)
    expect(page, "window.isSame && document.querySelector('main details').open && scrollY === 300", expected=True)


def every_control_has_a_name_and_every_chart_a_text_and_a_table(page: Page, url: str, fleet: Fleet) -> None:
    del fleet
    for route in ("", "#/groups", f"#/group/{key_of(GROUP)}", "#/pipeline"):
        page.open(url + route)
        page.wait_for("document.querySelector('main h1')")
        time.sleep(0.3)
        named = "(e) => (e.innerText || e.getAttribute('aria-label') || e.labels?.[0]?.innerText || '').trim()"
        all_named = f"[...document.querySelectorAll('a, button, input, select, svg')].filter((e) => !({named})(e))"
        expect(page, f"{all_named}.map((e) => e.outerHTML)", [])
        expect(page, "document.querySelectorAll('figure:not(:has(details table))').length", 0)
        expect(page, "document.querySelectorAll('th:not([scope])').length", 0)
        expect(page, "document.querySelectorAll('header').length + document.querySelectorAll('main').length", 2)


def no_page_is_wider_than_a_phone(page: Page, url: str, fleet: Fleet) -> None:
    del fleet
    for width, height in (PHONE, SMALLEST):
        page.show(width, height, mobile=True)
        for route in ("", "#/groups", f"#/group/{key_of(GROUP)}", "#/pipeline"):
            page.open("about:blank")
            page.open(url + route)
            page.wait_for("document.querySelector('main h1')")
            expect(page, "document.documentElement.scrollWidth", width)
    page.show(*DESKTOP)


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

SHOTS = (
    ("page-fleet", "", (1200, 1180), False),
    ("page-group", f"#/group/{key_of(SHOWN)}", (1200, 1100), True),
    ("page-pipeline", "#/pipeline", (1200, 1180), False),
    ("page-phone", "", (360, 740), False),
)
"""Name of the file, route, width and height, whether dark."""


def take_screenshots(page: Page, url: str, folder: Path) -> None:
    """Write a screenshot for each of SHOTS."""
    for name, route, (width, height), dark in SHOTS:
        page.show(width, height, dark=dark, mobile=width < 500)
        page.open("about:blank")
        page.open(url + route)
        page.wait_for("document.querySelector('main svg')")
        time.sleep(0.5)
        page.screenshot(folder / f"{name}.png")


def main() -> None:
    """Run the checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, help="keep the fleet here, and use the one that is here")
    parser.add_argument("--shots", type=Path, help="write screenshots into this folder")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "fleet.toml"
    config = read_config(file, {}) if file.exists() else make_fleet(folder, asked.groups)
    with served(config) as (url, live), opened_browser() as page:
        for number, check in enumerate(CHECKS):
            if number == UNCHANGING and asked.shots:
                asked.shots.mkdir(parents=True, exist_ok=True)
                take_screenshots(page, url, asked.shots)
            page.show(*DESKTOP)
            page.open("about:blank")
            check(page, url, live.fleet)
            print(f"ok: {check.__name__.replace('_', ' ')}", flush=True)
        if page.errors:
            raise SystemExit(f"expected no errors on the page; got {page.errors}")


if __name__ == "__main__":
    main()
