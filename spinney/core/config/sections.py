"""The configuration: every key with its type, default and meaning.

Messages, ``docs/configuration.md`` and ``spinney check --show`` are derived from these models. A key without effect
yet is marked ``implemented=False``; setting it to anything but its default is refused.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, Strict, model_validator

from spinney.core.config.effective import Setting, effective
from spinney.core.config.record_schema import RecordSchema
from spinney.core.config.section_base import Bool, Int, Number, Section, config_key
from spinney.core.config.staleness_sections import Budget, Staleness
from spinney.core.config.value_types import (
    ColumnTypes,
    Duration,
    GateRule,
    PoolingRows,
    PositiveDuration,
    Root,
    Topic,
)


class Fleet(Section):
    """The groups, columns and target of the fleet. Required."""

    DEFAULT_LOSS: ClassVar[dict[str, str]] = {"regression": "absolute", "classification": "log"}

    name: str = config_key(
        "fleet",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        meaning="Names the fleet in messages and in tracking: letters, digits, `.`, `_`, `-`.",
    )
    group: tuple[str, ...] = config_key(
        min_length=1,
        max_length=5,
        meaning="The one to five columns that identify a group. Each group has its own model.",
    )
    parents: tuple[tuple[str, ...], ...] = config_key(
        (),
        meaning="Subsets of `group` whose models answer for groups without one, nearest first; `[]` is all groups.",
    )
    event_id: str = config_key(min_length=1, meaning="The field with the event's id: a string, unique within a group.")
    event_time: str = config_key(
        min_length=1, meaning="The field with the event's time: ISO 8601, or as `[fleet.columns]` declares it."
    )
    target: str = config_key(min_length=1, meaning="The column to predict; declared in `[fleet.columns]`.")
    task: Literal["regression", "classification"] = config_key("regression", meaning="The kind of prediction.")
    loss: Literal["absolute", "squared", "log"] = config_key(
        "absolute", meaning="The loss for the gate, health and staleness. The default for classification is `log`."
    )
    features: tuple[str, ...] = config_key(min_length=1, meaning="The input columns of a model, in this order.")
    label_delay: Duration = config_key(
        timedelta(0),
        meaning="Time after which a label should have arrived. Only rows older than this (mature rows) are fitted.",
    )
    clock: Literal["event", "wall"] = config_key(
        "event", meaning="The clock for ages, windows and weights. Budgets always use the wall clock."
    )
    shards: Int = config_key(
        64, ge=1, le=65_536, meaning="Number of parts of the streaming state; about 1,000 groups each."
    )
    columns: ColumnTypes = config_key(
        min_length=1,
        meaning="Column name = Spark SQL type; `timestamp(s)`, `timestamp(ms)`, `timestamp(us)` and `timestamp(ns)` "
        "are times written as numbers since 1970 in messages and files, `timestamp(d)` as days since 1970, "
        "`timestamp(year)` as years.",
    )
    fields: dict[str, Annotated[str, Field(min_length=1)]] = config_key(
        {},
        meaning="Column name = its field in messages and files, if that has another name; `after.amount` reaches into "
        'nested objects. For `event_id`, `"*"` is a hash of the other columns.',
    )
    coerce: Bool = config_key(
        True,
        meaning='Whether a value in another form is accepted if nothing is lost: `"12.50"` for a number, `3.0` for an '
        "integer, `7` for text. Otherwise it is a dead letter.",
    )
    missing: tuple[str, ...] = config_key(
        ("",),
        meaning="Texts that mean no value: in CSV files in every column, in JSON in columns that are not strings.",
    )
    ranges: dict[str, tuple[Number, Number]] = config_key(
        {}, meaning="Column name = [lowest, highest]; events outside become dead letters."
    )

    @model_validator(mode="before")
    @classmethod
    def _loss_that_fits_the_task(cls, data: Any) -> Any:
        if isinstance(data, dict) and "loss" not in data and data.get("task") in cls.DEFAULT_LOSS:
            return {**data, "loss": cls.DEFAULT_LOSS[data["task"]]}
        return data

    def type_of(self, column: str) -> str | None:
        """Return the Spark SQL type of a column; None if it is not declared.

        The event id is always a string and the event time a timestamp, declared or not.
        """
        if column == self.event_id:
            return "string"
        return "timestamp" if column == self.event_time else self.columns.get(column)


class RecipeParents(Section):
    """Settings for fitting the models of parents."""

    max_rows: Int = config_key(
        100_000, ge=1, meaning="Maximum number of rows for fitting a parent, sampled by a hash of its group and id."
    )


class Recipe(Section):
    """What to fit and how."""

    estimator: str = config_key(
        "linear", min_length=1, meaning='A built-in name, or `"module:function"` returning an unfitted estimator.'
    )
    params: dict[str, Any] = config_key({}, meaning="Parameters of the estimator.")
    min_rows: Int = config_key(20, ge=1, meaning="A group with fewer mature rows is not fitted.")
    window_rows: Int = config_key(
        2000, ge=1, meaning="Maximum number of rows of a group for fitting; the newest are used."
    )
    window: PositiveDuration = config_key(timedelta(days=90), meaning="Maximum age of rows for fitting.")
    weight_half_life: PositiveDuration | None = config_key(
        None, meaning="Age at which the weight of a row is halved. Without it all rows weigh the same."
    )
    pooling_rows: PoolingRows | None = config_key(
        None,
        meaning="A group's model is shrunk toward its parent's, which counts as this many rows, more than 0 (only "
        '`linear` and `ridge`, with `fleet.parents`). `"estimated"`: as many as the rows of the fleet say, for parents '
        "too. Without it: not at all.",
    )
    time_limit: PositiveDuration = config_key(
        timedelta(seconds=30), meaning="Time limit for fitting one group, and for an answer of its model."
    )
    memory_limit_mib: Int = config_key(
        2048,
        ge=256,
        meaning="Address space in MiB that fitting a group may use beyond the initial size of its process.",
    )
    parents: RecipeParents = config_key(RecipeParents(), meaning="How the models of parents are fitted.")


class Shadow(Section):
    """A second recipe that is fitted for a share of the groups and compared with the first. It never answers."""

    estimator: str | None = config_key(
        None,
        min_length=1,
        meaning="The estimator to compare, as in `[recipe]`, whose other keys apply too. Without it: none.",
    )
    params: dict[str, Any] = config_key({}, meaning="Parameters of that estimator.")
    share: Number = config_key(
        0.1, gt=0, le=1, meaning="Share of the groups, chosen by a hash of the key; parents are never included."
    )


class Gate(Section):
    """When a challenger replaces the champion."""

    rule: GateRule = config_key(
        "not_worse",
        meaning="`not_worse`: promote a challenger that is at most `margin` worse with 60 % confidence (paired test). "
        "`module:name`: a function of your own (docs/gate.md).",
    )
    evidence: Int = config_key(
        30,
        ge=1,
        meaning="Held-out rows needed for a decision; with fewer the challenger is promoted as `unproven`, unless it "
        "is worse with 99 % confidence. After a change of the recipe, a challenger that measures worse is refused on "
        "any number of rows.",
    )
    margin: Number = config_key(
        0.05,
        ge=0,
        meaning="A tolerance, not a gain to be reached: a challenger that is worse than the champion by this share "
        "still counts as not worse. 0.05 is 5 %.",
    )
    jump: Annotated[float, Strict()] = config_key(
        10.0,
        gt=0,
        meaning="A challenger is held if its predictions are more than this many spreads of residuals from the "
        "champion's. `inf`: never. For regression.",
    )
    jump_hold: PositiveDuration = config_key(
        timedelta(days=14),
        meaning="Time that a group's challengers have to be held by their jump before one that is shown to be better "
        "is promoted, on the fleet's clock. Until then a person may promote one, or pin the champion.",
    )
    halt_share: Number = config_key(
        0.5,
        gt=0,
        le=1,
        meaning="If more than this share of at least 20 groups of a round (in a batch, of a part) fail or are refused "
        "as worse, no champion of it is replaced; 1: never.",
    )


class Intervals(Section):
    """Prediction intervals, for regression."""

    coverage: Number = config_key(
        0.9,
        ge=0,
        lt=1,
        meaning="Share of labels that should lie between `lower` and `upper` of their prediction; 0: no intervals.",
    )


class Kafka(Section):
    """Where events come from. Required."""

    bootstrap_servers: str = config_key("localhost:9092", min_length=1, meaning="`host:port`, several with commas.")
    events: Topic = config_key(meaning="The topic of events.")
    outcomes: Topic | None = config_key(
        None, meaning="The topic of late labels. Without it, the label is a field of the event."
    )
    predictions: Topic | None = config_key(None, meaning="The topic that answers are written to.")
    duplicates_within: PositiveDuration = config_key(
        timedelta(hours=2),
        meaning="Ids are remembered for at least this long; a second event with the same id is dropped.",
    )
    label_horizon: PositiveDuration = config_key(
        timedelta(hours=24),
        meaning="Labels that arrive within this time of their prediction count for health; later ones only for "
        "training.",
    )
    options: dict[str, str] = config_key(
        {},
        repr=False,
        meaning="Client options by their Java names: `security.protocol` …; those that the fleet sets are refused.",
    )


class Storage(Section):
    """Where tables are kept. Required."""

    root: Root = config_key(
        min_length=1,
        meaning="A folder, on this machine or shared. A relative path starts at the folder of this file (if set from "
        "the environment: at the current folder); `~` is the home folder.",
    )
    options: dict[str, str] = config_key(
        {}, implemented=False, repr=False, meaning="Credentials and settings of an object store."
    )


class Retention(Section):
    """What `spinney tidy` deletes. Without a key: nothing."""

    predictions: PositiveDuration | None = config_key(
        None,
        meaning="Predictions older than this are deleted, by whole days; not before copies of their events may count "
        "again (twice `kafka.duplicates_within`) or their late labels no longer count (twice `kafka.label_horizon`), "
        "and none while no newer ones come.",
    )
    health: PositiveDuration | None = config_key(None, meaning="Health older than this is deleted, by whole days.")
    verdicts: PositiveDuration | None = config_key(
        None, meaning="Verdicts older than this are deleted, except the newest of them for each group."
    )
    models: PositiveDuration | None = config_key(
        None, meaning="How far back a rollback reaches; older models and decisions are deleted."
    )


class Tracking(Section):
    """What is recorded in MLflow."""

    uri: str = config_key(
        "sqlite:///work/mlflow.db",
        min_length=1,
        meaning="MLflow's tracking URI. The relative path of an SQLite file starts at the folder of this file, like "
        "`storage.root`.",
    )
    mode: Literal["round", "group", "off"] = config_key(
        "round",
        meaning="`round`: one run per weekly batch, and one per stream and day. "
        "`group`: also a nested run for each attempted group, with its model. `off`: nothing.",
    )
    calls_per_second: Int = config_key(40, ge=1, le=10_000, meaning="Maximum rate of calls to MLflow.")


class Gateway(Section):
    """The HTTP gateway, `spinney serve`."""

    host: str = config_key("127.0.0.1", min_length=1, meaning="The address to listen on; `0.0.0.0` is every one.")
    port: Int = config_key(8080, ge=0, le=65_535, meaning="The port to listen on; 0 for any free one.")
    max_mib: Int = config_key(16, ge=1, le=1024, meaning="Largest body of a request, in MiB.")
    max_rows: Int = config_key(20_000, ge=1, meaning="Most rows in one request.")
    max_groups: Int = config_key(20_000, ge=1, meaning="Most groups in one request.")
    concurrency: Int = config_key(8, ge=1, le=256, meaning="Requests that are answered at the same time.")
    waiting: Int = config_key(
        248,
        ge=0,
        meaning="Maximum number of requests that wait or still send their body; further ones are refused with "
        "status 429.",
    )
    bodies_mib: Int = config_key(
        1024,
        ge=1,
        meaning="Memory for the bodies of all requests that are there, in MiB. A further one is refused with status "
        "429, unless it is the only one. A body of unknown length counts as `max_mib`.",
    )
    time_limit: PositiveDuration = config_key(
        timedelta(seconds=30),
        meaning="Time limit of a request, its body and its wait included; then it is refused with 503.",
    )
    drain: Duration = config_key(
        timedelta(seconds=3),
        meaning="How long after SIGTERM new requests are still answered. Health checks say 503 meanwhile, so that a "
        "load balancer stops sending requests.",
    )
    cache_mib: Int = config_key(256, ge=1, meaning="Memory for loaded models, in MiB.")


class Config(Section):
    """A whole `fleet.toml`, checked. Made by `parse`."""

    fleet: Fleet
    recipe: Recipe = Recipe()
    shadow: Shadow = Shadow()
    staleness: Staleness = Staleness()
    budget: Budget = Budget()
    gate: Gate = Gate()
    intervals: Intervals = Intervals()
    kafka: Kafka
    storage: Storage
    retention: Retention = Retention()
    tracking: Tracking = Tracking()
    gateway: Gateway = Gateway()
    spark: dict[str, str] = config_key({}, repr=False, meaning="Spark's own settings, passed through.")

    _text: str = PrivateAttr("")
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def text(self) -> str:
        """The TOML text it was parsed from; not in repr, since it may contain secrets."""
        return self._text

    @property
    def origins(self) -> dict[str, str]:
        """Dotted key -> ``fleet.toml:12`` or ``environment SPINNEY_…``; keys that are not in it have their default."""
        return dict(self._origins)

    def effective(self) -> list[Setting]:
        """Return every key with its value and origin, secrets masked."""
        return effective(self, self._origins)

    @property
    def safe_retention(self) -> Retention:
        """The retention, but with predictions for as long as they are needed to recognise copies and to find labels.

        Copies of events are recognised by their predictions. Late labels find them by an index, which may have to be
        built from them.
        """
        if self.retention.predictions is None:
            return self.retention
        horizon = self.kafka.label_horizon if self.kafka.outcomes is not None else timedelta()
        least = 2 * max(self.kafka.duplicates_within, horizon) + timedelta(days=1)
        return self.retention.model_copy(update={"predictions": max(self.retention.predictions, least)})

    @property
    def record_schema(self) -> RecordSchema:
        """The columns of events and outcomes, and their topics."""
        return RecordSchema(self.fleet, self.kafka.events, self.kafka.outcomes)
