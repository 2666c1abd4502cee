from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from io import StringIO

import pandas as pd
import pytest
from rich.console import Console

from demo.refit_comparison import RefitComparison
from demo.report import render_report
from demo.run_summary import DemoRun, summarize_run
from demo.terminal_summary import summary_text

A1, A2 = '["A","1"]', '["A","2"]'
SECTIONS = ["worth", "injected", "retraining", "life", "batches", "sets", "worst", "notes"]
BATCHES = [{"query": "score", "batch_id": 0, "rows": 10, "seconds": 6.0, "phases": {"write": 3.0}}]


@pytest.fixture
def comparison():
    rows = []
    for hour in range(4 * 24):
        at = pd.Timestamp("2020-01-05", tz="UTC") + pd.Timedelta(hours=hour)
        rows += [(key, f"{hour}", at, 20.0, 1.0, 1.25, 1.5, 2.0, 3.0) for key in (A1, A2)]
    names = ["group_key", "event_id", "event_time", "label", "fleet", "in_turn", "daily", "weekly", "never"]
    fits = {"fleet": 3, "in_turn": 3, "daily": 8, "weekly": 2, "never": 0}
    return RefitComparison(pd.DataFrame(rows, columns=names), 0, fits)


@pytest.fixture
def summary(tables, statuses, ledger, scenario, config, comparison):
    found = summarize_run(
        DemoRun(tables, statuses, ledger, BATCHES, 61.0, comparison), scenario, config, frozenset({A1})
    )
    return json.loads(json.dumps(found))


class Reader(HTMLParser):
    """Checks that every element is closed where it was opened, and collects what refers outside."""

    def __init__(self):
        super().__init__()
        self.open, self.sections, self.loads = [], [], []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.loads += [name for name in ("src", "href", "srcset", "action") if name in given]
        if tag in {"script", "link", "iframe", "img"}:
            self.loads.append(tag)
        if tag == "section":
            self.sections.append(given["id"])
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def test_every_section_is_there_in_order(summary):
    assert read(render_report(summary)).sections == SECTIONS


def test_nothing_is_loaded_from_anywhere(summary):
    text = render_report(summary)
    assert read(text).loads == []
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)


def test_the_result_stands_at_the_top_and_what_was_injected_is_marked(summary):
    text = render_report(summary)
    assert "<h1>Retrained as it went stale, the fleet erred 50&nbsp;% less than one refitted weekly, and 20" in text
    assert text.count('class="made"') >= 3  # the section, the one group's life, the table of the worst
    assert "This did not happen" in text


def test_sets_that_do_not_add_up_are_reported_with_the_ids(summary):
    check = summary["reconciliation"]["checks"][0]
    check.update(adds_up=False, missing=1, examples=["missing <lost> 1"])
    summary["reconciliation"]["adds_up"] = False
    text = render_report(summary)
    assert "The sets do not add up" in text
    assert "missing &lt;lost&gt; 1" in text
    assert "Nothing lost" not in text


def test_names_from_the_data_are_escaped(summary):
    summary["fleet"]["name"] = "<b>fleet</b>"
    summary["worth"]["worst"][0]["group_key"] = '["<script>","1"]'
    text = render_report(summary)
    assert "<b>fleet" not in text
    assert "<script" not in text


def test_a_run_without_worth_still_has_a_report(tables, statuses, ledger, scenario, config):
    found = summarize_run(DemoRun(tables, statuses, ledger, [], 1.0), scenario, config, frozenset())
    assert read(render_report(found)).sections == ["retraining", "batches", "sets", "notes"]


def test_a_change_that_nobody_recovered_from_is_reported(summary):
    found = summary["worth"]["injected"]["hours_to_recover"]
    assert found["fleet"] == 24
    found["never"] = None
    assert "not within the demo" in render_report(summary)


def test_the_terminal_says_the_same(summary):
    out = StringIO()
    Console(file=out, width=120).print(summary_text(summary))
    text = out.getvalue()
    assert "erred 50 % less than one refitted weekly" in text
    assert "8 sent: 4 stored, 1 duplicate, 3 dead; 4 predictions" in text
    assert "The sets add up: nothing lost, nothing twice." in text
    summary["reconciliation"]["adds_up"] = False
    out.truncate(0)
    Console(file=out, width=120).print(summary_text(summary))
    assert "The sets do not add up." in out.getvalue()
