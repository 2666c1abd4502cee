"""The sections `[staleness]` and `[budget]`: which groups are refitted, and how many at once."""

from __future__ import annotations

from datetime import timedelta

from spinney.core.config.section_base import Bool, Int, Number, Section, config_key
from spinney.core.config.value_types import PolicyName, PositiveDuration


class ErrorRise(Section):
    """A champion's error has risen."""

    patience: PositiveDuration = config_key(
        timedelta(days=365),
        meaning="Bounds false alarms: on average at least this time lies between two of an unchanged group. A shorter "
        "one finds a risen error after fewer rows ([staleness.md](staleness.md)). The same bound holds for false "
        "withdrawals of a champion ([gate.md](gate.md#the-watch-after-a-promotion)).",
    )
    factor: Number = config_key(
        2.0, retired=True, gt=1, meaning="Replaced by `patience`: a file that sets it is still read."
    )
    rows: Int = config_key(30, retired=True, ge=1, meaning="Replaced by `patience`: a file that sets it is still read.")


class Drift(Section):
    """The distribution of a champion's predictions differs from that of the predictions stored with it."""

    patience: PositiveDuration = config_key(
        timedelta(days=365),
        meaning="Bounds false reports: on average at least this time lies between two of an unchanged group.",
    )
    triggers: Bool = config_key(False, meaning="Whether drift makes a group stale. Otherwise it is only reported.")


class Staleness(Section):
    """When a group is stale: if any of these policies applies."""

    max_age: PositiveDuration = config_key(
        timedelta(days=14),
        meaning="Maximum time since the last attempt to fit. Without `new_rows`, busy groups are refitted sooner "
        "([row_days](policies.md#row_days)).",
    )
    age_spread: Number = config_key(
        0.15,
        ge=0,
        lt=1,
        meaning="Share of `max_age` by which a group may become stale earlier, by a hash of its key, "
        "so that groups fitted together do not become stale together.",
    )
    new_rows: Int | None = config_key(
        None,
        ge=1,
        meaning="Number of new labelled rows after which a group is stale. Without it: half as many as the last "
        "model was fitted on, or fewer the older it is ([row_days](policies.md#row_days)).",
    )
    error_rise: ErrorRise = config_key(ErrorRise(), meaning="Staleness by a rise of the error.")
    drift: Drift = config_key(Drift(), meaning="Drift of the predictions ([policies.md](policies.md#drift)).")
    no_labels: PositiveDuration = config_key(
        timedelta(days=7),
        meaning="Event time without labels, while events go on, after which a group is reported and not refitted; at "
        "least ten times its usual interval between labels, by recent labels.",
    )
    schedule: PositiveDuration | None = config_key(
        None,
        meaning="The length of a period at whose end every group is stale, by the fleet's clock in UTC: `1d` ends at "
        "midnight, `7d` on Mondays. Without it: none.",
    )
    policies: tuple[PolicyName, ...] = config_key(
        (), meaning='Policies of your own, as `"module:name"` ([policies.md](policies.md)).'
    )


class Budget(Section):
    """Limits of a streaming round, and of a part of the weekly batch."""

    seconds: Number = config_key(
        5.0,
        gt=0,
        meaning="Target wall-clock seconds of a streaming round, as predicted from earlier rounds. A round whose fixed "
        "part takes more than two thirds of it may take 1.5 times the fixed part.",
    )
    max_groups: Int = config_key(20_000, ge=1, meaning="Maximum number of groups in a streaming round.")
    oldest_first_share: Number = config_key(
        0.2, ge=0, le=1, meaning="Share of the budget for the groups that have been stale longest."
    )
    random_share: Number = config_key(0.05, ge=0, le=1, meaning="Share of the budget for randomly chosen stale groups.")
    brake_share: Number = config_key(
        0.3,
        gt=0,
        le=1,
        meaning="If the error of more than this share of the groups rises at once, a streaming round refits only a "
        "random sample first; 1: never. From 50 groups with a model on.",
    )
    part_seconds: Number = config_key(
        60.0,
        gt=0,
        meaning="Target wall-clock seconds per part of the weekly batch, excluding fixed overhead. "
        "A killed batch loses at most one part.",
    )
