"""The result of a backtest as rows of a table, as notes, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from spinney.core.backtest.comparison import EQUAL_UP_TO, Comparison, Score
from spinney.core.backtest.history import History
from spinney.core.backtest.replay import Steps
from spinney.core.durations import format_duration
from spinney.core.number_format import format_number
from spinney.core.planning.budget import FIRST_POLICY
from spinney.core.reporting.loss_names import loss_label
from spinney.core.timestamps import from_microseconds


@dataclass(frozen=True)
class Backtest:
    """The result of a backtest, and what it was made from. source: for messages. loss: as in ``fleet.loss``."""

    comparison: Comparison
    history: History
    steps: Steps
    source: str
    loss: str

    @property
    def first_event(self) -> datetime:
        """Time of the oldest labelled event."""
        return from_microseconds(int(self.history.rows.times.min()))

    @property
    def last_event(self) -> datetime:
        """Time of the newest labelled event."""
        return from_microseconds(int(self.history.rows.times.max()))


def heading_lines(backtest: Backtest) -> Iterator[str]:
    """Yield the lines above the table: what was replayed, and how to read the losses."""
    rows, comparison = len(backtest.history.rows.times), backtest.comparison
    step = format_duration(timedelta(microseconds=backtest.steps.length))
    days = f"{comparison.days:,} days" if comparison.days != 1 else "1 day"
    yield (
        f"{rows:,} labelled events of {backtest.history.n_groups:,} groups in {backtest.source}, "
        f"{backtest.first_event:%Y-%m-%d} to {backtest.last_event:%Y-%m-%d}, {backtest.steps.count:,} steps of {step}"
    )
    yield (
        f"loss: {loss_label(backtest.loss)} of the {comparison.rows:,} events that every candidate answered by the "
        f"group's own model; ratio to the first line with a 95 % interval over {days}"
    )


def table_rows(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Return one row per candidate, for people."""
    return [
        {
            "candidate": score.name,
            "loss": format_number(score.loss),
            "ratio": f"{score.ratio.value:.4f}",
            "95 %": f"{score.ratio.low:.4f}–{score.ratio.high:.4f}",
            "fits": f"{score.fits:,}",
            "by policy": _counts(score.fits_by_policy),
            "s predicted": f"{score.predicted_s:.1f}",
            "s measured": f"{score.measured_s:.1f}",
            "promoted": f"{score.promoted:,}",
            "refused": f"{score.refused:,}",
            "over max_age": f"{score.overdue:,}",
            "braked steps": f"{score.braked_steps:,}",
            "held": f"{score.held:,}",
        }
        for score in scores
    ]


def to_json(backtest: Backtest, files: Mapping[str, str]) -> dict[str, Any]:
    """Return the result as plain values for `--json`, numbers unrounded. files: kind -> path of what was written."""
    comparison = backtest.comparison
    return {
        "source": backtest.source,
        "loss": backtest.loss,
        "events": len(backtest.history.rows.times),
        "groups": backtest.history.n_groups,
        "first_event": backtest.first_event,
        "last_event": backtest.last_event,
        "step_seconds": backtest.steps.length / 1e6,
        "steps": backtest.steps.count,
        "compared_events": comparison.rows,
        "compared_groups": comparison.groups,
        "compared_days": comparison.days,
        "equal_up_to": EQUAL_UP_TO,
        "candidates": [
            {**asdict(score), "is_equal_or_less": score.ratio.is_equal_or_less} for score in comparison.scores
        ],
        "files": dict(files),
    }


def _counts(fits: Mapping[str, int]) -> str:
    order = sorted(fits, key=lambda policy: (policy != FIRST_POLICY, policy))
    return ", ".join(f"{policy} {fits[policy]:,}" for policy in order)
