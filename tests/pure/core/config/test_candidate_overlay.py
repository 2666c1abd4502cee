from __future__ import annotations

from datetime import timedelta

import pytest
from handwritten_history import fleet_toml

from spinney.core.config import parse
from spinney.core.config.candidate_overlay import parse_overlay
from spinney.core.errors import ConfigError

OWN = fleet_toml(
    "work",
    more="""\
[recipe]
params = { alpha = 3.0 }
min_rows = 7
[staleness]
max_age = "2d"
error_rise = { patience = "365d" }
""",
)


@pytest.fixture
def own():
    return parse(OWN, "fleet.toml", {})


def test_keys_of_the_other_file_replace_those_of_the_first_and_all_others_stay(own) -> None:
    found = parse_overlay(own, '[staleness]\nmax_age = "7d"\n[gate]\nmargin = 0.5', "weekly.toml", {})
    assert (found.staleness.max_age, found.gate.margin) == (timedelta(days=7), 0.5)
    assert found.recipe == own.recipe
    assert (found.fleet, found.budget) == (own.fleet, own.budget)


def test_parameters_are_those_of_the_other_estimator_only(own) -> None:
    assert parse_overlay(own, '[recipe]\nestimator = "constant"', "c.toml", {}).recipe.params == {}
    assert parse_overlay(own, "[recipe]\nparams = { alpha = 1.0 }", "c.toml", {}).recipe.params == {"alpha": 1.0}
    kept = parse_overlay(own, "[recipe]\nmin_rows = 9", "c.toml", {}).recipe
    assert (kept.params, kept.min_rows) == ({"alpha": 3.0}, 9)


def test_a_whole_configuration_of_the_same_fleet_is_a_candidate_too(own) -> None:
    found = parse_overlay(own, OWN.replace('"2d"', '"9d"').replace('root = "work"', 'root = "elsewhere"'), "o.toml", {})
    assert (found.staleness.max_age, found.storage.root) == (timedelta(days=9), "work")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[staleness]\n\nmax_agee = "7d"', "other.toml:3: staleness.max_agee"),
        ("[stalenes]\nnew_rows = 3", r"other.toml:1: stalenes: expected a section .* got `stalenes`"),
        ("[tracking]\ncalls_per_second = 3", r"expected one of \[recipe\], .*; got none"),
        ("[gate\n", "other.toml: expected a TOML file"),
        (OWN.replace('"sale"', '"other_id"'), "fleet: expected the fleet of the other file; got another"),
        ("[gate]\nmargin = -1.0", "other.toml:2: gate.margin"),
    ],
)
def test_a_file_that_is_no_candidate_is_refused_with_its_line(own, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_overlay(own, text, "other.toml", {})
