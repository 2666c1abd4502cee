"""`demo.toml`: what the demo does with an example's data, as checked values."""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.vocabulary import DeadLetterReason
from spinney.core.config.value_types import PositiveDuration
from spinney.core.errors import ConfigError, Finding

Share = Annotated[float, AllowInfNan(False), Field(ge=0, le=0.5)]
Count = Annotated[int, Field(ge=0)]


class ScenarioSection(BaseModel):
    """A table of the file. Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class HistoryDays(ScenarioSection):
    """The days that are loaded and fitted before the stream begins. since: inclusive; until: exclusive."""

    since: date = Field(alias="from")
    until: date

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.since >= self.until:
            msg = f"`until` after `from` ({self.since}), got {self.until}"
            raise ValueError(msg)
        return self


class StreamSettings(ScenarioSection):
    """Settings of the stream.

    days: number of streamed days. max_ahead: how far sending may be ahead of processing, event time.
    """

    days: int = Field(ge=1, le=3660)
    max_ahead: PositiveDuration = timedelta(hours=12)


class FaultSettings(ScenarioSection):
    """Faulty records that are sent on purpose. duplicates: share of records sent twice."""

    duplicates: Share = 0.0
    unmatched_outcomes: Count = 0
    dead_letters_each: Count = 1
    dead_letters: tuple[DeadLetterReason, ...] = ()


class InjectedChange(ScenarioSection):
    """An artificial, sudden change of the target in some groups. Reports mark it as injected.

    groups: number of groups, drawn by seed from those with at least `min_events_per_day` in the history. after_days:
    days of streaming before the change. Exactly one of add (in the target's unit) and factor is set. says: description
    for the report.
    """

    groups: int = Field(ge=1)
    min_events_per_day: float = Field(default=1.0, gt=0)
    after_days: int = Field(ge=1)
    add: float | None = None
    factor: float | None = None
    says: str = ""

    @model_validator(mode="after")
    def _one_change(self) -> Self:
        if (self.add is None) == (self.factor is None):
            msg = "exactly one of `add` and `factor`"
            raise ValueError(msg)
        return self

    def apply(self, label: float) -> float:
        """Return a label as it is after the change."""
        return label + self.add if self.add is not None else label * (self.factor if self.factor is not None else 1.0)


class Scenario(ScenarioSection):
    """A whole `demo.toml`. Times are UTC. unit: of the loss, for charts and texts."""

    data: str = Field(min_length=1)
    label_at: str | None = None
    unit: str = ""
    seed: int = 0
    history: HistoryDays
    stream: StreamSettings
    faults: FaultSettings = FaultSettings()
    injected: InjectedChange | None = None

    @model_validator(mode="after")
    def _change_inside_the_stream(self) -> Self:
        if self.injected is not None and self.injected.after_days >= self.stream.days:
            msg = f"`injected.after_days` below `stream.days` ({self.stream.days}), got {self.injected.after_days}"
            raise ValueError(msg)
        return self

    def with_days(self, days: int) -> Scenario:
        """Return the scenario with another number of streamed days, without a change that would come after them."""
        stream = self.stream.model_copy(update={"days": days})
        injected = self.injected if self.injected and self.injected.after_days < days else None
        return self.model_copy(update={"stream": stream, "injected": injected})

    @property
    def history_start(self) -> datetime:
        """First moment of the history."""
        return _midnight(self.history.since)

    @property
    def stream_start(self) -> datetime:
        """End of the history and start of the stream."""
        return _midnight(self.history.until)

    @property
    def stream_end(self) -> datetime:
        """End of the stream; records that are due later are not sent."""
        return self.stream_start + timedelta(days=self.stream.days)

    @property
    def change_at(self) -> datetime | None:
        """Event time of the injected change; None if there is none."""
        return None if self.injected is None else self.stream_start + timedelta(days=self.injected.after_days)


def parse_scenario(text: str, source: str) -> Scenario:
    """Parse `text` (TOML). source: the file's name, for messages. Raises ConfigError with every finding."""
    try:
        return Scenario.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        finding = Finding(source, None, "", "TOML", str(error), "Strings need quotes, and each key may occur once.")
        raise ConfigError([finding]) from error
    except ValidationError as error:
        raise ConfigError([_finding(source, details) for details in error.errors(include_url=False)]) from error


def read_scenario(folder: Path) -> Scenario:
    """Read `demo.toml` of an example folder. Raises ConfigError: the file is missing or not valid."""
    path = folder / "demo.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        remedy = "Name a folder with fleet.toml, demo.toml and data, such as examples/flights."
        raise ConfigError([Finding(str(path), None, "", "a readable file", str(error), remedy)]) from error
    return parse_scenario(text, str(path))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def _finding(source: str, details: object) -> Finding:
    assert isinstance(details, dict)
    key = ".".join(str(part) for part in details["loc"])
    message = str(details["msg"]).removeprefix("Value error, ").removeprefix("expected ")
    if details["type"] == "extra_forbidden":
        message = "a key that exists"
    got = "nothing" if details["type"] == "missing" else repr(details["input"])[:120]
    return Finding(source, None, key, message, got, "See examples/flights/demo.toml for every key.")
