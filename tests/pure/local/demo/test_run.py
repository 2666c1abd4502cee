from __future__ import annotations

from io import StringIO

from rich.console import Console

from spinney.local.demo.run import Options, Stage, prepare


def test_a_demo_too_short_for_its_change_makes_none_and_says_so():
    said = StringIO()
    play = prepare(Options(days=1), "localhost:9", Stage(Console(file=said, width=200)))
    assert play.rows.injected == frozenset()
    assert said.getvalue() == "No change is injected: it would come after 3 days, and 1 stream.\n"


def test_a_demo_of_its_own_length_says_nothing_of_its_change():
    said = StringIO()
    play = prepare(Options(), "localhost:9", Stage(Console(file=said, width=200)))
    assert len(play.rows.injected) == 20
    assert said.getvalue() == ""
