from __future__ import annotations

import re
from importlib import resources
from xml.etree import ElementTree as ET

import pytest

from spinney.core.reporting.palette import CSS_VARIABLES, GREEN
from spinney.local.reports.svg_chart import Chart, format_tick, inline_svg, spread_out


@pytest.fixture
def chart():
    chart = Chart(400, 200)
    bars = chart.axes.bar([0, 1], [3, 4], color=GREEN)
    dots = chart.axes.scatter([0, 0.5, 1], [1, 2, 3], color="#123456")
    chart.add_tooltip(bars[1], "second < bar")
    chart.add_tooltip(dots, ["one", "two", "three"])
    chart.set_y_title("seconds & more")
    chart.mark_moment(0.5, "change")
    chart.mark_level(2, "limit")
    return chart


def styles():
    return resources.files("spinney.local.reports").joinpath("report.css").read_text(encoding="utf-8")


def variables(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))


def test_labels_that_would_touch_are_moved_apart_and_keep_their_order():
    moved = spread_out([100.0, 102.0, 50.0], 17)
    assert moved[1] - moved[0] == pytest.approx(17)
    assert moved[2] < moved[0]
    assert sum(moved) == pytest.approx(252)
    assert spread_out([], 17) == []


def test_ticks_have_commas_and_only_the_decimals_they_need():
    assert [format_tick(value) for value in (0, 0.5, 12_000, -3.0)] == ["0", "0.5", "12,000", "-3"]


def test_a_chart_is_xml_with_a_label_and_refers_to_nothing_outside_itself(chart):
    text = chart.svg('says "what" < it shows')
    root = ET.fromstring(text.replace("xlink:href", "href"))
    assert root.attrib == {"viewBox": "0 0 400 200", "role": "img", "aria-label": 'says "what" < it shows'}
    assert not re.search(r"https?:|url\(|<image|<style|<metadata|clip-path", text)
    ids = {element.get("id") for element in root.iter()} - {None}
    assert {element.get("href")[1:] for element in root.iter("use")} == ids


def test_texts_are_texts_in_the_font_of_the_page_and_escaped(chart):
    text = chart.svg("x")
    root = ET.fromstring(text.replace("xlink:href", "href"))
    texts = {element.text for element in root.iter("text")}
    assert {"seconds & more", "change", "limit"} <= texts
    assert "font-family" not in text


def test_colours_of_the_palette_are_variables_of_the_page_and_others_stay(chart):
    text = chart.svg("x")
    assert "var(--green)" in text
    assert GREEN not in text
    assert "#123456" in text


def test_each_mark_has_its_own_tooltip(chart):
    root = ET.fromstring(chart.svg("x").replace("xlink:href", "href"))
    assert [title.text for title in root.iter("title")] == ["second < bar", "one", "two", "three"]
    assert [use.find("title").text for use in root.iter("use") if len(use)] == ["one", "two", "three"]


def test_the_same_chart_is_the_same_text_and_charts_of_other_labels_share_no_id(chart):
    one, other = chart.svg("one"), inline_svg(chart.figure, "other")
    assert one == chart.svg("one")
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_the_page_has_every_colour_of_the_palette_and_a_dark_counterpart():
    light, dark = styles().split("@media (prefers-color-scheme: dark)", 1)
    assert variables(light) == {name: colour for colour, name in CSS_VARIABLES.items()}
    assert variables(dark).keys() == variables(light).keys()
    used = set(re.findall(r"var\(--([a-z-]+)\)", styles()))
    assert used <= variables(light).keys()
