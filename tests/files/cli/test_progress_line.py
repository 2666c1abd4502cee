from __future__ import annotations

import math

import pytest

from spinney.cli.progress_line import ProgressLine


def test_on_a_terminal_each_text_overwrites_the_one_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    line = ProgressLine(seconds_between=math.inf)
    line.show("1 of 2", is_last=False)
    line.show("2 of 2", is_last=True)
    assert capsys.readouterr().err == "\r\x1b[K1 of 2\r\x1b[K2 of 2\n"


@pytest.mark.parametrize(
    ("seconds_between", "expected"), [(0.0, "1 of 2\n2 of 2\n"), (3_600.0, "2 of 2\n"), (math.inf, "2 of 2\n")]
)
def test_elsewhere_lines_are_printed_at_intervals_and_the_last_one_always(
    seconds_between: float, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ProgressLine(seconds_between)
    line.show("1 of 2", is_last=False)
    line.show("2 of 2", is_last=True)
    assert capsys.readouterr().err == expected
