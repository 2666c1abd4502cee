"""What the flights' README says of its demo is what `demo.toml` and the data make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.example_data import read_example_data
from demo.scenario import read_scenario
from spinney.storage.config_file import read_config

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"
ORDINALS = {4: "fourth"}
WEEKS = {6: "six"}


@pytest.fixture(scope="module")
def readme() -> str:
    return " ".join((FLIGHTS / "README.md").read_text(encoding="utf-8").split())


def test_the_readme_of_the_flights_reports_the_days_of_its_demo(readme: str) -> None:
    scenario = read_scenario(FLIGHTS)
    weeks = (scenario.stream_start - scenario.history_start).days // 7
    assert f"loads {WEEKS[weeks]} weeks as history, then streams {scenario.stream.days} days through Kafka" in readme
    assert f"such periods of {scenario.stream.days} days in the year" in readme
    changelog = (FLIGHTS.parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"{scenario.stream.days} days of real departures" in changelog


def test_the_readme_of_the_flights_reports_what_is_made_up(readme: str) -> None:
    scenario = read_scenario(FLIGHTS)
    injected, faults = scenario.injected, scenario.faults
    assert injected is not None
    day = ORDINALS[injected.after_days + 1]
    assert (
        f"**{injected.add:g} minutes are added** to the air time of {injected.groups} groups from the {day}" in readme
    )
    kinds = len(faults.dead_letters)
    twice = f"{faults.duplicates:.0%} of the records are sent twice".replace("%", " %")
    invalid = f"{kinds * faults.dead_letters_each} invalid records of {kinds} kinds are sent"
    assert f"{twice}, {invalid}, and {faults.unmatched_outcomes} outcomes of flights that do not exist" in readme


def test_the_readme_of_the_flights_reports_how_many_groups_there_are(readme: str) -> None:
    rows = read_example_data(FLIGHTS, read_scenario(FLIGHTS), read_config(FLIGHTS / "fleet.toml", {}))
    assert f"{rows.frame['group_key'].nunique()} groups in the weeks of the demo" in readme
