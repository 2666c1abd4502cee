"""`demo.toml`: what the demo does with an example's data, and the check that the data can do it."""

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


class Section(BaseModel):
    """One table of the file. Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class History(Section):
    """Days that are loaded and fitted before the stream begins: from the first, up to but without the last."""

    since: date = Field(alias="from")
    until: date

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.since >= self.until:
            msg = f"`until` after `from` ({self.since}), got {self.until}"
            raise ValueError(msg)
        return self


class Stream(Section):
    """The days that are streamed, and how far their producer may run ahead of the loop, in event time."""

    days: int = Field(ge=1, le=3660)
    max_ahead: PositiveDuration = timedelta(hours=12)


class Faults(Section):
    """What is sent wrong on purpose."""

    duplicates: Share = 0.0
    unmatched_outcomes: Count = 0
    dead_letters_each: Count = 1
    dead_letters: tuple[DeadLetterReason, ...] = ()


class Injected(Section):
    """A sudden change of the target in some groups. Made up, and labelled so wherever it is shown.

    groups: how many, drawn by seed from those with at least `min_events_per_day` in the history.
    after_days: of streaming. Exactly one of add (in the target's unit) and factor.
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

    def change(self, label: float) -> float:
        """The label as it is after the change."""
        return label + self.add if self.add is not None else label * (self.factor if self.factor is not None else 1.0)


class Story(Section):
    """A whole `demo.toml`. Times are UTC. unit: of the loss, for the figures."""

    data: str = Field(min_length=1)
    label_at: str | None = None
    unit: str = ""
    seed: int = 0
    history: History
    stream: Stream
    faults: Faults = Faults()
    injected: Injected | None = None

    @model_validator(mode="after")
    def _change_inside_the_stream(self) -> Self:
        if self.injected is not None and self.injected.after_days >= self.stream.days:
            msg = f"`injected.after_days` below `stream.days` ({self.stream.days}), got {self.injected.after_days}"
            raise ValueError(msg)
        return self

    def lasting(self, days: int) -> Story:
        """The same with so many days streamed, and without a change that would come after them."""
        stream = self.stream.model_copy(update={"days": days})
        injected = self.injected if self.injected and self.injected.after_days < days else None
        return self.model_copy(update={"stream": stream, "injected": injected})

    @property
    def since(self) -> datetime:
        """Where the history begins."""
        return _midnight(self.history.since)

    @property
    def start(self) -> datetime:
        """Where the history ends and the stream begins."""
        return _midnight(self.history.until)

    @property
    def end(self) -> datetime:
        """Where the stream ends; what would be due later is not sent."""
        return self.start + timedelta(days=self.stream.days)

    @property
    def change_at(self) -> datetime | None:
        """Event time of the injected change; None without one."""
        return None if self.injected is None else self.start + timedelta(days=self.injected.after_days)


def parse(text: str, source: str) -> Story:
    """Return the story that `text` (TOML) describes. source: the file's name, for messages.

    Raises ConfigError with every finding.
    """
    try:
        return Story.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        finding = Finding(source, None, "", "TOML", str(error), "Strings need quotes, and each key may stand once.")
        raise ConfigError([finding]) from error
    except ValidationError as error:
        raise ConfigError([_finding(source, details) for details in error.errors(include_url=False)]) from error


def read_story(folder: Path) -> Story:
    """Return the story of an example folder. Raises ConfigError: no such file, or what `parse` raises."""
    path = folder / "demo.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        remedy = "Name a folder with fleet.toml, demo.toml and data, such as examples/flights."
        raise ConfigError([Finding(str(path), None, "", "a readable file", str(error), remedy)]) from error
    return parse(text, str(path))


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
