from __future__ import annotations

import json
import re
from io import StringIO

import pytest
from rich.console import Console

from demo.scale.report import render_report
from demo.scale.run import summary_text
from demo.scale.scale_summary import example_groups, require_sets_add_up, summarize_scale_run
from spinney.core.errors import StoreError

SECTIONS = ["errors", "refits", "latency", "before", "batches", "sets", "notes"]


@pytest.fixture
def summary(run):
    found = summarize_scale_run(run)
    found["refits"]["examples"] = [{**one, "story": '["d1"]: fresh <now>'} for one in example_groups(run)]
    return json.loads(json.dumps({**found, "acts": {}, "wall_seconds": 61.0}))


def printed(summary):
    out = StringIO()
    Console(file=out, width=200).print(summary_text(summary))
    return out.getvalue()


def test_every_section_is_there_in_order_and_nothing_is_loaded_from_anywhere(summary):
    text = render_report(summary)
    assert re.findall(r'<section id="(\w+)"', text) == SECTIONS
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script|<img|<link", text)
    assert "fresh &lt;now&gt;" in text


def test_the_result_stands_at_the_top_of_both(summary):
    reported = "2 of 200 groups changed, and 2 of them were refitted after it; their new champions answered"
    assert reported in printed(summary)
    assert f"<h1>{reported}" in render_report(summary)
    assert "Of the 198 that did not change, 0 were refitted." in printed(summary)
    assert "The sets add up: nothing lost, nothing stored twice." in printed(summary)


def test_the_terminal_says_rates_latency_memory_and_reasons(summary):
    text = printed(summary)
    for reported in (
        "20,000 sent (2,000/s)",
        "99 % within 1.5 s",
        "peak 1,004 MB",
        "fits: 2 error rose",
        "by new champions 0.25",
    ):
        assert reported in text


def test_answers_published_again_and_refits_before_the_change_are_reported(summary):
    summary["stream"]["repeated_answers"] = 12
    summary["refits"]["earlier"] |= {"refitted": 1, "by_policy": {"error_rise": 1}}
    assert "The topic of predictions is at least once: 12 answers were published again." in render_report(summary)
    assert "12 answers were published again" in printed(summary)
    assert "changed, refitted before the change: false alarms" in render_report(summary)
    assert "1 of 2 groups refitted" in printed(summary)


def test_how_often_the_others_get_an_event_is_that_of_these_sizes(summary):
    # 9 s after the lead-in: 4 busy groups get 44 events a second, 196 others the rest of 2,000.
    assert "the others share the rest, 599 a minute each" in render_report(summary)


def test_without_a_refit_or_memory_there_is_still_a_report(summary):
    nothing = {"n": 0, "p50": None, "p95": None, "max": None}
    summary["refits"] |= {"to_stale": nothing, "to_answer": nothing, "histogram": [], "examples": []}
    summary["memory"] = None
    assert "not known on this system" in printed(summary)
    assert "No new champion of a changed group has answered yet" in render_report(summary)


def test_sets_that_do_not_add_up_are_an_error_that_names_them(summary):
    require_sets_add_up(summary)
    check = summary["reconciliation"]["checks"][0]
    check.update(adds_up=False, missing=1, examples=["missing <lost>"])
    summary["reconciliation"]["adds_up"] = False
    assert "The sets do not add up" in render_report(summary)
    assert "missing &lt;lost&gt;" in render_report(summary)
    with pytest.raises(StoreError, match=r"history \(rows written = rows stored\): missing <lost>"):
        require_sets_add_up(summary)
