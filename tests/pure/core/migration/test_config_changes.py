"""What an edit means for a fleet that already runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from spinney.core.config import Config, parse
from spinney.core.config.effective import leaves
from spinney.core.migration.config_changes import ConfigChange, Effect, config_changes
from spinney.core.recipes.recipe import Recipe

TEXT = """\
[fleet]
group = ["shop"]
parents = [[]]
event_id = "id"
event_time = "at"
target = "sold"
features = ["price"]
label_delay = "1h"
[fleet.columns]
shop = "string"
price = "double"
floor = "int"
sold = "double"
[fleet.ranges]
price = [0, 10]
[recipe]
min_rows = 20
[kafka]
events = "sales"
[storage]
root = "work/sales"
"""
FIXED: dict[str, Any] = {
    "fleet.group": ["shop"],
    "fleet.event_id": "id",
    "fleet.event_time": "at",
    "fleet.target": "sold",
    "fleet.task": "regression",
    "fleet.loss": "absolute",
    "fleet.clock": "event",
    "fleet.shards": 64,
    "fleet.columns": {"shop": "string", "price": "double", "floor": "int", "sold": "double"},
    "kafka.events": "sales",
    "kafka.outcomes": None,
}


def edited(*edits: tuple[str, str]) -> Config:
    text = TEXT
    for before, after in edits:
        assert before in text
        text = text.replace(before, after, 1)
    return parse(text, "fleet.toml", {})


def found(*edits: tuple[str, str]) -> list[ConfigChange]:
    return config_changes(edited(*edits), FIXED, edited())


def test_a_configuration_that_was_not_edited_changes_nothing() -> None:
    assert found() == []
    assert config_changes(edited(), FIXED, None) == []


@pytest.mark.parametrize(
    ("before", "after", "key", "was", "now", "effect"),
    [
        ("min_rows = 20", "min_rows = 10", "recipe.min_rows", "20", "10", Effect.NEXT_FIT),
        ("min_rows = 20", 'window = "120d"', "recipe.window", '"90d"', '"120d"', Effect.NEXT_FIT),
        ("min_rows = 20", 'window = "30d"', "recipe.window", '"90d"', '"30d"', Effect.NEXT_FIT_WITH_NEWER_ROWS),
        ("min_rows = 20", "window_rows = 99", "recipe.window_rows", "2000", "99", Effect.NEXT_FIT_WITH_NEWER_ROWS),
        ("min_rows = 20", "params = { alpha = 2.0 }", "recipe.params.alpha", "", "2.0", Effect.NEXT_FIT),
        ("min_rows = 20", 'estimator = "constant"', "recipe.estimator", '"linear"', '"constant"', Effect.NEXT_FIT),
        ('["price"]', '["price", "floor"]', "fleet.features", '["price"]', '["price", "floor"]', Effect.NEXT_FIT),
        ("price = [0, 10]", "price = [0, 20]", "fleet.ranges.price", "[0.0, 10.0]", "[0.0, 20.0]", Effect.AT_AN_OFFSET),
        ("price = [0, 10]", "", "fleet.ranges.price", "[0.0, 10.0]", "", Effect.AT_AN_OFFSET),
        (
            "[fleet.ranges]",
            "[fleet.fields]\nfloor = 'f'\n[fleet.ranges]",
            "fleet.fields.floor",
            "",
            '"f"',
            Effect.AT_AN_OFFSET,
        ),
        ('delay = "1h"', 'delay = "2h"', "fleet.label_delay", '"1h"', '"2h"', Effect.NEXT_VERDICT),
        ("parents = [[]]", "parents = []", "fleet.parents", "[[]]", "[]", Effect.NEXT_VERDICT),
        ("[storage]", "[budget]\nseconds = 9.0\n[storage]", "budget.seconds", "5.0", "9.0", Effect.NEXT_VERDICT),
        ("[storage]", 'predictions = "out"\n[storage]', "kafka.predictions", "", '"out"', Effect.NEXT_START),
        ("[storage]", '[retention]\nhealth = "9d"\n[storage]', "retention.health", "", '"9d"', Effect.NEXT_TIDY),
        ("min_rows = 20", 'time_limit = "9s"', "recipe.time_limit", '"30s"', '"9s"', Effect.NEXT_VERDICT),
        ("[storage]", "[intervals]\ncoverage = 0.5\n[storage]", "intervals.coverage", "0.9", "0.5", Effect.NEXT_ANSWER),
        ("[storage]", "[gateway]\nport = 9\n[storage]", "gateway.port", "8080", "9", Effect.NEXT_SERVE),
        ("[fleet]", '[fleet]\nname = "shops"', "fleet.name", '"fleet"', '"shops"', Effect.NEW_NAME),
    ],
)
def test_a_key_that_may_change_is_reported_with_when_it_takes_effect(
    before: str, after: str, key: str, was: str, now: str, effect: Effect
) -> None:
    extra = (
        ("[recipe]\n", "[recipe]\nmin_rows = 20\n") if before == "min_rows = 20" and "min_rows" not in after else None
    )
    edits = [(before, after)] + ([extra] if extra else [])
    assert found(*edits) == [ConfigChange(key, was, now, effect)]


def _another(value: Any) -> Any:
    """A value that is not this one. What the key allows does not matter for when it takes effect."""
    if isinstance(value, bool):
        return not value
    if value is None or isinstance(value, int | float):
        return (value or 0) + 1
    if isinstance(value, timedelta):
        return value + timedelta(days=1)
    return ("another",)


def _with(model: Any, path: list[str], value: Any) -> Any:
    name, *rest = path
    if isinstance(model, dict):
        return model | {name: value}
    return model.model_copy(update={name: _with(getattr(model, name), rest, value) if rest else value})


@pytest.mark.parametrize("key", [key for key, _ in leaves(edited())])
def test_each_key_is_fixed_or_reported_with_when_it_takes_effect_or_left_out_for_its_credentials(key: str) -> None:
    now, value = edited(), dict(leaves(edited()))[key]
    changes = config_changes(_with(now, key.split("."), _another(value)), FIXED, now)
    if key.startswith(("storage.", "kafka.options", "spark", "tracking.")):
        assert changes == []
    else:
        assert {change.key.startswith(key) for change in changes} == {True}
        assert (changes[0].effect is Effect.REFUSED) == (key in FIXED or key.startswith("fleet.columns."))


SETTINGS = [key for key, _ in leaves(edited()) if key.startswith("recipe.") and key != "recipe.params"]


@pytest.mark.parametrize("key", [key for key in SETTINGS if key != "recipe.estimator"])
def test_only_a_part_of_the_recipe_is_reported_to_refit_groups(key: str) -> None:
    now = _with(edited(), key.split("."), _another(dict(leaves(edited()))[key]))
    (change,) = config_changes(now, FIXED, edited())
    is_other_recipe = Recipe.of(now).recipe_id != Recipe.of(edited()).recipe_id
    assert (change.effect is Effect.NEXT_FIT) == is_other_recipe


@pytest.mark.parametrize(
    ("before", "after", "key", "why", "remedy"),
    [
        ('group = ["shop"]', 'group = ["floor"]', "fleet.group", "of the old groups", 'Put ["shop"] back'),
        (
            'event_id = "id"',
            'event_id = "nr"',
            "fleet.event_id",
            "identified by the old field",
            '[fleet.fields]: id = "nr"',
        ),
        ('target = "sold"', 'target = "floor"', "fleet.target", "old target", "migrate --rename OLD=NEW"),
        ('target = "sold"', 'target = "sold"\nshards = 8', "fleet.shards", "old number", "Put 64 back"),
        ('events = "sales"', 'events = "tills"', "kafka.events", "offsets of the old topic", 'Put "sales" back'),
        ('events = "sales"', 'events = "sales"\noutcomes = "o"', "kafka.outcomes", "old topic", "Remove it"),
    ],
)
def test_a_key_that_is_fixed_is_refused_with_why_and_what_to_do(
    before: str, after: str, key: str, why: str, remedy: str
) -> None:
    (change,) = found((before, after))
    assert (change.key, change.effect) == (key, Effect.REFUSED)
    assert why in change.why
    assert remedy in change.remedy
    assert "spinney load ROOT/tables/events" in change.remedy


def test_a_change_of_the_loss_leads_to_the_migration_and_says_what_it_converts() -> None:
    (change,) = found(('target = "sold"', 'target = "sold"\nloss = "squared"'))
    assert (change.key, change.before, change.now, change.effect) == (
        "fleet.loss", '"absolute"', '"squared"', Effect.REFUSED,
    )  # fmt: skip
    assert change.why == "stored losses are by the old one; those of single rows give the new one, means do not"
    assert change.remedy == (
        "`spinney migrate` says what that means; with --yes it converts what can be converted and restarts the "
        'means. Or put "absolute" back.'
    )


def test_a_new_column_is_refused_beside_the_feature_that_would_take_effect() -> None:
    column, feature = found(("floor =", 'rate = "double"\nfloor ='), ('["price"]', '["price", "rate"]'))
    assert (column.key, column.before, column.now) == ("fleet.columns.rate", "", '"double"')
    assert column.effect is Effect.REFUSED
    assert "`spinney migrate`" in column.remedy
    assert (feature.key, feature.effect) == ("fleet.features", Effect.NEXT_FIT)


@pytest.mark.parametrize("after", ['["floor"]', '["floor", "lamp"]'])
def test_a_removed_feature_is_reported_with_the_command_that_needs_no_comparison(after: str) -> None:
    lamp = ("floor =", 'lamp = "int"\nfloor =')
    fixed = {name: value for name, value in FIXED.items() if name != "fleet.columns"}
    (change,) = config_changes(edited(lamp, ('["price"]', after)), fixed, edited(lamp))
    assert (change.key, change.effect) == ("fleet.features", Effect.NEXT_FIT_UNCOMPARED)
    assert str(change).endswith(
        "a group with a model keeps it, since nothing can be compared without the feature; all "
        "at once: spinney retrain --all --unproven"
    )


def test_a_renamed_feature_is_not_a_removed_one() -> None:
    now, fixed = edited(("price =", "cost ="), ("price =", "cost ="), ('["price"]', '["cost"]')), {}
    (change, *_) = [
        each for each in config_changes(now, fixed, edited(), {"price": "cost"}) if each.key == "fleet.features"
    ]
    assert change.effect is Effect.NEXT_FIT
    (change, *_) = [each for each in config_changes(now, fixed, edited()) if each.key == "fleet.features"]
    assert change.effect is Effect.NEXT_FIT_UNCOMPARED


def test_a_dropped_column_may_stay_declared_without_being_a_feature() -> None:
    (change,) = found(('floor = "int"\n', ""))
    assert (change.key, change.before, change.now) == ("fleet.columns.floor", '"int"', "")
    assert "need not be in fleet.features" in change.remedy
    assert str(change).startswith('fleet.columns.floor was "int" and is gone: the tables have the column')


def test_of_several_columns_of_one_type_the_target_and_the_group_are_paired_by_their_role() -> None:
    edits = [('"shop"', '"store"'), ("shop =", "store ="), ('"sold"', '"sales"'), ("sold =", "sales =")]
    edits += [('["price"]', '["cost"]'), ("price =", "cost ="), ("price =", "cost ="), ("floor", "label_of")]
    edits += [('sales = "double"', 'sales = "double"\nmore = "string"')]
    changes = {change.key: change for change in found(*edits)}
    said = {key: change.remedy.partition("`spinney migrate --rename ")[2] for key, change in changes.items()}
    renames = {key: text.partition("`")[0] for key, text in said.items()}
    assert renames["fleet.columns.shop"] == "shop=store"
    assert renames["fleet.columns.sold"] == "sold=sales"
    assert renames["fleet.columns.price"] == "price=cost"
    assert renames["fleet.columns.floor"] == "floor=label_of"


def test_a_column_with_two_possible_new_names_is_paired_with_none() -> None:
    (gone, *_) = found(("floor", "level"), ('sold = "double"', 'sold = "double"\ndepth = "int"'))
    assert (gone.key, "--rename" in gone.remedy) == ("fleet.columns.floor", False)


def test_a_renamed_column_keeps_its_name_and_is_reported_its_field() -> None:
    gone, new = found(('floor = "int"', 'level = "int"'))
    assert 'add to [fleet.fields]: floor = "level"' in gone.remedy
    assert "`spinney migrate --rename floor=level`" in gone.remedy
    assert new.key == "fleet.columns.level"


@pytest.mark.parametrize(
    ("kind", "is_wider"), [("bigint", True), ("double", True), ("smallint", False), ("string", False)]
)
def test_a_column_of_another_type_is_refused_a_wider_one_too(kind: str, is_wider: bool) -> None:
    (change,) = found(('floor = "int"', f'floor = "{kind}"'))
    assert (change.before, change.now, change.effect) == ('"int"', f'"{kind}"', Effect.REFUSED)
    assert ("`spinney migrate`" in change.remedy) == is_wider
    assert 'ut "int" back' in change.remedy


def test_the_unit_of_a_time_may_be_edited() -> None:
    at = ("floor =", 'at = "timestamp(ms)"\nopened = "timestamp(s)"\nfloor =')
    fixed = FIXED | {"fleet.columns": FIXED["fleet.columns"] | {"opened": "timestamp"}}
    last = edited(("floor =", 'opened = "timestamp"\nfloor ='))
    assert config_changes(edited(at), fixed, last) == [
        ConfigChange("fleet.columns.opened", '"timestamp"', '"timestamp(s)"', Effect.AT_AN_OFFSET),
        ConfigChange("fleet.columns.at", "", '"timestamp(ms)"', Effect.AT_AN_OFFSET),
    ]


def test_a_fleet_whose_last_configuration_is_not_known_is_compared_by_what_is_fixed() -> None:
    config = edited(("min_rows = 20", "min_rows = 10"), ('events = "sales"', 'events = "tills"'))
    assert [each.key for each in config_changes(config, FIXED, None)] == ["kafka.events"]
    assert [each.key for each in config_changes(config, FIXED, edited())] == ["kafka.events", "recipe.min_rows"]


def test_a_long_value_is_reported_in_short_and_compared_whole() -> None:
    names = [f"column_{each}" for each in range(30)]
    columns = ("floor =", "".join(f'{name} = "double"\n' for name in names) + "floor =")
    fixed = FIXED | {"fleet.columns": FIXED["fleet.columns"] | dict.fromkeys(names, "double")}
    texts = [str(["price", *names, *more]).replace("'", '"') for more in ([], ["floor"])]
    last, now = (edited(columns, ('["price"]', text)) for text in texts)
    (change,) = config_changes(now, fixed, last)
    assert (change.key, len(change.before), len(change.now)) == ("fleet.features", 80, 80)
