"""The configuration as values: every key, its type, its default and what it means, said once.

Messages, ``docs/configuration.md`` and ``spinney check --show`` are derived from these models. A key that
is read but does nothing yet is marked ``in_effect=False``; setting it to anything but its default is refused.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, PrivateAttr, Strict, model_validator

from spinney.core.config.effective import Setting, effective
from spinney.core.config.values import ColumnTypes, Duration, GateRule, PositiveDuration, Root, Topic

Int = Annotated[int, Strict()]
Number = Annotated[float, Strict(), AllowInfNan(False)]
Bool = Annotated[bool, Strict()]


def key(default: Any = ..., *, says: str, in_effect: bool = True, **constraints: Any) -> Any:
    """Return a pydantic field. says: one sentence for people. constraints: pydantic's own (ge, le, min_length …)."""
    return Field(default, description=says, json_schema_extra={"in_effect": in_effect}, **constraints)


class Section(BaseModel):
    """One table of the file. Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Fleet(Section):
    """What the fleet is made of. Required."""

    DEFAULT_LOSS: ClassVar[dict[str, str]] = {"regression": "absolute", "classification": "log"}

    name: str = key(
        "fleet",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        says="Names the fleet in messages and in tracking: letters, digits, `.`, `_`, `-`.",
    )
    group: tuple[str, ...] = key(min_length=1, max_length=5, says="The one to five columns that own a model.")
    parents: tuple[tuple[str, ...], ...] = key(
        (), says="Who answers for new or thin groups, nearest first: subsets of `group`; `[]` is all groups together."
    )
    event_id: str = key(min_length=1, says="The field with the event's id: a string, unique within a group.")
    event_time: str = key(
        min_length=1, says="The field that says when it happened: ISO 8601, or as `[fleet.columns]` declares it."
    )
    target: str = key(min_length=1, says="What is predicted; declared in `[fleet.columns]`.")
    task: Literal["regression", "classification"] = key("regression", says="What kind of target it is.")
    loss: Literal["absolute", "squared", "log"] = key(
        "absolute", says="One loss for the gate, health and staleness. Without it: `log` for classification."
    )
    features: tuple[str, ...] = key(min_length=1, says="The columns a model sees, in this order.")
    label_delay: Duration = key(
        timedelta(0), says="Rows older than this are mature: their label would have come. Only they are fitted."
    )
    clock: Literal["event", "wall"] = key(
        "event", says="What ages, windows and weights run on. Budgets always run on the wall clock."
    )
    shards: Int = key(64, ge=1, le=65_536, says="Parts that streaming state is kept in; about 1,000 groups each.")
    columns: ColumnTypes = key(
        min_length=1,
        says="Column name = Spark SQL type; `timestamp(s)`, `timestamp(ms)` and `timestamp(us)` are times that are "
        "numbers since 1970 in messages and files.",
    )
    fields: dict[str, Annotated[str, Field(min_length=1)]] = key(
        {},
        says="Column name = its field in messages and files, where that has another name; `after.amount` reaches into "
        "nested objects.",
    )
    coerce: Bool = key(
        True,
        says='Whether a value in another form is taken where nothing is lost: `"12.50"` for a number, `3.0` for an '
        "integer, `7` for text. Otherwise it is a dead letter.",
    )
    missing: tuple[str, ...] = key(
        ("",),
        says="Texts that mean no value: in a CSV file in each column, in JSON in columns that are not strings.",
    )
    ranges: dict[str, tuple[Number, Number]] = key(
        {}, says="Column name = [lowest, highest]; an event outside is a dead letter."
    )

    @model_validator(mode="before")
    @classmethod
    def _loss_that_fits_the_task(cls, data: Any) -> Any:
        if isinstance(data, dict) and "loss" not in data and data.get("task") in cls.DEFAULT_LOSS:
            return {**data, "loss": cls.DEFAULT_LOSS[data["task"]]}
        return data

    def type_of(self, column: str) -> str | None:
        """The Spark SQL type of a column; None if it is not declared.

        The event id is always a string and the event time a timestamp, declared or not.
        """
        if column == self.event_id:
            return "string"
        return "timestamp" if column == self.event_time else self.columns.get(column)


class RecipeParents(Section):
    """How the models of parents are fitted."""

    max_rows: Int = key(100_000, ge=1, says="Rows a parent is fitted on at most: a sample by hash of the event id.")


class Recipe(Section):
    """What to fit and how."""

    estimator: str = key(
        "ridge", min_length=1, says='A built-in name, or `"module:function"` returning an unfitted estimator.'
    )
    params: dict[str, Any] = key({}, says="Passed to the estimator.")
    min_rows: Int = key(20, ge=1, says="A group with fewer mature rows is not fitted.")
    window_rows: Int = key(2000, ge=1, says="The newest rows of a group that are fitted, at most.")
    window: PositiveDuration = key(timedelta(days=90), says="How far back rows are fitted.")
    weight_half_life: PositiveDuration | None = key(
        None, says="A row this old weighs half. Without it: all rows weigh the same."
    )
    time_limit: PositiveDuration = key(
        timedelta(seconds=30), says="Longest fit of one group, and longest answer of its model; then it is given up."
    )
    memory_limit_mib: Int = key(
        2048, ge=256, says="Address space, in MiB, that fitting a group may take beyond what its process began with."
    )
    parents: RecipeParents = key(RecipeParents(), says="How the models of parents are fitted.")


class Shadow(Section):
    """A second recipe in shadow: fitted beside the first in a share of the groups and compared, never answering."""

    estimator: str | None = key(
        None, min_length=1, says="What to compare with, as in `[recipe]`, whose other keys hold too. Without it: none."
    )
    params: dict[str, Any] = key({}, says="Passed to that estimator.")
    share: Number = key(0.1, gt=0, le=1, says="Share of the groups, by a hash of the key; parents are never in it.")


class ErrorRise(Section):
    """A champion's error has risen."""

    factor: Number = key(2.0, gt=1, says="Stale when the mean loss is this many times what the gate saw.")
    rows: Int = key(30, ge=1, says="Labelled rows needed before that is believed.")
    patience: PositiveDuration = key(
        timedelta(days=365), in_effect=False, says="An unchanged group is refitted for error once in this, on average."
    )


class Drift(Section):
    """The features look different from those that were fitted."""

    patience: PositiveDuration = key(
        timedelta(days=365), in_effect=False, says="An unchanged group is reported once in this, on average."
    )
    triggers: Bool = key(False, in_effect=False, says="Whether drift makes a group stale, or is only shown.")


class Staleness(Section):
    """When a group is stale: if any of these says so."""

    max_age: PositiveDuration = key(timedelta(days=7), says="Stale at latest this long after the last attempt to fit.")
    age_spread: Number = key(
        0.15,
        ge=0,
        lt=1,
        says="Share of `max_age` by which a group may be stale earlier, by a hash of its key, "
        "so that groups fitted together are not all stale together.",
    )
    new_rows: Int = key(200, ge=1, says="Stale after this many new labelled rows.")
    error_rise: ErrorRise = key(ErrorRise(), says="Stale when its error has risen.")
    drift: Drift = key(Drift(), says="Drift of the features.")
    policies: tuple[str, ...] = key((), in_effect=False, says='More policies, as `"module:name"`.')


class Budget(Section):
    """How much one streaming round may cost, and a part of the weekly batch."""

    seconds: Number = key(
        5.0, gt=0, says="Predicted length of one round on the wall clock, in seconds, learned from the rounds before."
    )
    max_groups: Int = key(20_000, ge=1, says="Groups that one streaming round takes at most, whatever they cost.")
    oldest_first_share: Number = key(0.2, ge=0, le=1, says="Share of it for the groups that have been stale longest.")
    random_share: Number = key(0.05, ge=0, le=1, says="Share of it for stale groups drawn by lot.")
    part_seconds: Number = key(
        60.0, gt=0, says="The weekly batch stores its work in parts of about this length: a killed one loses that much."
    )


class Gate(Section):
    """When a challenger takes the champion's place."""

    rule: GateRule = key("not_worse", says="`not_worse`: unless it is shown to be worse.")
    evidence: Int = key(
        30,
        ge=1,
        says="Held-out rows needed to refuse or to prove; with fewer it is `unproven`, unless the recipe was "
        "changed and measures worse: that is refused on any number of rows.",
    )
    margin: Number = key(0.05, ge=0, says="How much worse still counts as not worse: 0.05 is 5 %.")


class Intervals(Section):
    """Prediction intervals."""

    coverage: Number = key(0.9, gt=0, lt=1, in_effect=False, says="Share of labels that lie inside.")


class Kafka(Section):
    """Where events come from. Required."""

    bootstrap_servers: str = key("localhost:9092", min_length=1, says="`host:port`, several with commas.")
    events: Topic = key(says="The topic of events.")
    outcomes: Topic | None = key(None, says="The topic of late labels. Without it the label is a field of the event.")
    predictions: Topic | None = key(None, says="The topic that answers are sent to.")
    duplicates_within: PositiveDuration = key(
        timedelta(hours=2), says="A second event with the same id is dropped at least this long."
    )
    label_horizon: PositiveDuration = key(
        timedelta(hours=24), says="Labels this late still count for health; later ones only for training."
    )
    options: dict[str, str] = key(
        {},
        repr=False,
        says="Client options by their Java names: `security.protocol` … What the fleet sets itself is refused.",
    )


class Storage(Section):
    """Where tables are kept. Required."""

    root: Root = key(
        min_length=1,
        says="A folder, of this machine or shared. A relative one starts at the folder of this file (one set from the "
        "environment: at the current folder); `~` is the home folder.",
    )
    options: dict[str, str] = key(
        {}, in_effect=False, repr=False, says="Credentials and settings of a store that is no folder."
    )


class Retention(Section):
    """What `spinney tidy` forgets. Without a key: nothing."""

    predictions: PositiveDuration | None = key(None, says="Whole dates of predictions older than this are forgotten.")
    health: PositiveDuration | None = key(None, says="Whole dates of health older than this are forgotten.")
    verdicts: PositiveDuration | None = key(
        None, says="Verdicts older than this are forgotten, but for the last of each group before."
    )
    models: PositiveDuration | None = key(
        None, says="How far back a rollback reaches; models and decisions beyond its reach are forgotten."
    )


class Tracking(Section):
    """What MLflow is told."""

    uri: str = key(
        "sqlite:///work/mlflow.db",
        min_length=1,
        says="MLflow's tracking URI. The relative path of an SQLite file starts at the folder of this file, as that of "
        "`storage.root` does.",
    )
    mode: Literal["round", "group", "off"] = key(
        "round",
        says="`round`: one run per weekly batch, one per stream and day. "
        "`group`: in it one more for each attempted group, with its model. `off`: nothing.",
    )
    calls_per_second: Int = key(40, ge=1, le=10_000, says="MLflow is called no faster than this.")


class Gateway(Section):
    """The HTTP gateway."""

    port: Int = key(8080, ge=1, le=65_535, in_effect=False, says="Where it listens.")


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
    spark: dict[str, str] = key({}, repr=False, says="Spark's own settings, passed through.")

    _text: str = PrivateAttr("")
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def text(self) -> str:
        """The TOML it was read from; not in repr, since it may hold secrets."""
        return self._text

    @property
    def origins(self) -> dict[str, str]:
        """Dotted key -> ``fleet.toml:12`` or ``environment SPINNEY_…``; a key that is not there has its default."""
        return dict(self._origins)

    def effective(self) -> list[Setting]:
        """Every key with its value and where it came from, secrets masked."""
        return effective(self, self._origins)

    @property
    def label_inside(self) -> bool:
        """Whether the label is a field of the event: there is no topic of outcomes."""
        return self.kafka.outcomes is None

    @property
    def target_type(self) -> str:
        """The Spark SQL type of the target."""
        return self.fleet.columns[self.fleet.target]

    @property
    def event_columns(self) -> dict[str, str]:
        """Name -> type of what an event carries besides its id and time; the target only if the label is inside."""
        left_out = {self.fleet.event_id, self.fleet.event_time, "observed_at"}
        if not self.label_inside:
            left_out.add(self.fleet.target)
        return {name: kind for name, kind in self.fleet.columns.items() if name not in left_out}
