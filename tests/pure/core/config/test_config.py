from __future__ import annotations

import pickle
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from handwritten_history import fleet_toml
from pydantic import ValidationError

from spinney.core.config import Config, parse
from spinney.core.config.cross_checks import RESERVED_NAMES
from spinney.core.config.value_types import column_type, time_unit
from spinney.core.errors import ConfigError, Finding

MINIMAL = """\
[fleet]
group = ["shop"]
event_id = "id"
event_time = "at"
target = "sold"
features = ["price", "sunny"]
[fleet.columns]
shop = "string"
price = "double"
sunny = "boolean"
sold = "int"
[kafka]
events = "sales"
[storage]
root = "work/sales"
"""


def read(text: str = MINIMAL, **environment: str) -> Config:
    return parse(text, "fleet.toml", environment)


def findings(text: str, **environment: str) -> list[Finding]:
    with pytest.raises(ConfigError) as caught:
        read(text, **environment)
    return list(caught.value.findings)


def only_finding(text: str, **environment: str) -> Finding:
    found = findings(text, **environment)
    assert len(found) == 1, [str(finding) for finding in found]
    return found[0]


def with_line(line: str, after: str = "[fleet]") -> str:
    assert after in MINIMAL
    return MINIMAL.replace(after, f"{after}\n{line}", 1)


def test_a_minimal_file_is_enough() -> None:
    config = read()
    assert config.fleet.group == ("shop",)
    assert (config.fleet.task, config.fleet.loss, config.fleet.shards) == ("regression", "absolute", 64)
    assert config.recipe.window == timedelta(days=90)
    assert config.recipe.weight_half_life is None
    assert config.staleness.error_rise.patience == timedelta(days=365)
    assert config.kafka.bootstrap_servers == "localhost:9092"
    assert config.tracking.mode == "round"


def test_classification_has_the_log_loss_by_default() -> None:
    text = with_line('task = "classification"')
    assert read(text).fleet.loss == "log"


def test_the_text_is_kept_and_not_shown() -> None:
    config = read()
    assert config.text == MINIMAL
    assert "[fleet.columns]" not in repr(config)


def test_secrets_are_not_in_the_repr() -> None:
    config = read(with_line('options = { "ssl.key.password" = "hush" }', after="[kafka]"))
    assert config.kafka.options == {"ssl.key.password": "hush"}
    assert "hush" not in repr(config)


def test_a_secret_that_is_refused_is_not_shown() -> None:
    finding = only_finding(with_line('options = { AWS_SECRET_ACCESS_KEY = "hush" }', after="[storage]"))
    assert (finding.key, finding.got) == ("storage.options", "********")
    assert "not implemented yet" in finding.remedy


@pytest.mark.parametrize("root", ["work/a b", "/srv/fleets/ä", "file:///srv/fleets/a", "./a:b"])
def test_a_root_is_a_folder(root: str) -> None:
    assert read(MINIMAL.replace("work/sales", root)).storage.root == root


@pytest.mark.parametrize(
    "root", ["s3://bucket/a", "abfss://c@a/b", "dbfs:/a", "hdfs:a", "file:a", "file://host/a", "work/a%20b", "work/*"]
)
def test_a_root_that_is_not_tried_is_refused(root: str) -> None:
    finding = only_finding(MINIMAL.replace("work/sales", root))
    assert (finding.key, finding.got) == ("storage.root", f'"{root}"')
    assert finding.expected.startswith("a path without % ?")
    assert "not supported yet" in finding.remedy


def test_a_configuration_is_frozen_and_survives_pickling() -> None:
    config = read()
    again = pickle.loads(pickle.dumps(config))
    assert again == config
    assert again.text == config.text
    with pytest.raises(ValidationError):
        config.fleet.shards = 3  # type: ignore[misc]


def test_without_a_topic_of_outcomes_the_label_is_inside_the_event() -> None:
    assert read().record_schema.has_label_in_event
    assert read().record_schema.event_columns == {
        "shop": "string",
        "price": "double",
        "sunny": "boolean",
        "sold": "int",
    }
    late = read(with_line('outcomes = "receipts"', after="[kafka]"))
    assert not late.record_schema.has_label_in_event
    assert late.record_schema.event_columns == {"shop": "string", "price": "double", "sunny": "boolean"}
    assert late.record_schema.target_type == "int"


def test_the_id_is_a_string_and_the_time_a_timestamp_whether_declared_or_not() -> None:
    fleet = read().fleet
    assert (fleet.type_of("id"), fleet.type_of("at"), fleet.type_of("nothing")) == ("string", "timestamp", None)
    declared = read(MINIMAL.replace('shop = "string"', 'shop = "string"\nid = "string"\nat = "timestamp"'))
    assert declared.fleet.type_of("at") == "timestamp"
    assert "at" not in declared.record_schema.event_columns


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("integer", "int"),
        ("LONG", "bigint"),
        ("short", "smallint"),
        ("byte", "tinyint"),
        ("bool", "boolean"),
        ("Decimal( 10 , 2 )", "decimal(10,2)"),
        ("numeric(5)", "decimal(5,0)"),
        ("decimal", "decimal(10,0)"),
        ("decimal(39,0)", None),
        ("decimal(3,4)", None),
        ("varchar(5)", None),
        ("timestamp_ntz", None),
        ("array<int>", None),
    ],
)
def test_column_types_have_one_spelling(written: str, read_as: str | None) -> None:
    assert column_type(written) == read_as


def test_spark_options_may_be_written_without_quotes() -> None:
    config = read(MINIMAL + '[spark]\nspark.driver.memory = "2g"\n"spark.ui.enabled" = "false"\n')
    assert config.spark == {"spark.driver.memory": "2g", "spark.ui.enabled": "false"}
    assert config.origins["spark.spark.driver.memory"] == "fleet.toml:17"


# Each: the line put in, after which line, the key and the line found, a word of what was expected, of the remedy.
WRONG: dict[str, tuple[str, str, str, int | None, str, str]] = {
    "unknown key": ("windw = 3", "[fleet]", "fleet.windw", 2, "a key of [fleet]", "Known: `name`"),
    "misspelt key": ("shard = 3", "[fleet]", "fleet.shard", 2, "a key of [fleet]", "Did you mean `shards`?"),
    "hyphen": ("label-delay = '1h'", "[fleet]", "fleet.label-delay", 2, "a key of [fleet]", "`label_delay`"),
    "misspelt value": (
        "task = 'regresion'",
        "[fleet]",
        "fleet.task",
        2,
        '"regression" or',
        'Did you mean "regression"?',
    ),
    "text for a number": ("shards = '8'", "[fleet]", "fleet.shards", 2, "a whole number, at least 1", ""),
    "true for a number": ("shards = true", "[fleet]", "fleet.shards", 2, "a whole number", ""),
    "too small": ("shards = 0", "[fleet]", "fleet.shards", 2, "at least 1", ""),
    "bare number for a duration": ("label_delay = 6", "[fleet]", "fleet.label_delay", 2, "a duration", "no unit"),
    "loose duration": (
        "label_delay = '6 hours'",
        "[fleet]",
        "fleet.label_delay",
        2,
        "a duration",
        'Did you mean "6h"?',
    ),
    "endless duration": ("label_delay = '99999d'", "[fleet]", "fleet.label_delay", 2, "at most 36500d", ""),
    "bad name": ("name = 'a b'", "[fleet]", "fleet.name", 2, "of the form", ""),
    "log for regression": ("loss = 'log'", "[fleet]", "fleet.loss", 2, '"absolute" or "squared"', ""),
    "parent of strangers": (
        "parents = [['shpo']]",
        "[fleet]",
        "fleet.parents[0]",
        2,
        "columns of fleet.group",
        "`shop`",
    ),
    "parent is the group": ("parents = [['shop']]", "[fleet]", "fleet.parents[0]", 2, "fewer columns", ""),
    "parent twice": ("parents = [[], []]", "[fleet]", "fleet.parents[1]", 2, "each parent once", ""),
    "parents flat": ("parents = ['shop']", "[fleet]", "fleet.parents[0]", 2, "a list of lists of strings", ""),
    "range on text": ("ranges = { shop = [0, 1] }", "[fleet]", "fleet.ranges.shop", 2, "a range on a number", ""),
    "range upside down": (
        "ranges = { price = [2, 1] }",
        "[fleet]",
        "fleet.ranges.price",
        2,
        "[lowest, highest]",
        "Swap",
    ),
    "range of nothing": (
        "ranges = { prize = [0, 1] }",
        "[fleet]",
        "fleet.ranges.prize",
        2,
        "[fleet.columns]",
        "`price`",
    ),
    "range infinite": ("ranges = { price = [0, inf] }", "[fleet]", "fleet.ranges.price[1]", 2, "[lowest, highest]", ""),
    "unknown type": ("tax = 'varchar(9)'", "[fleet.columns]", "fleet.columns.tax", 8, "a column type", '"string"'),
    "reserved": ("topic = 'string'", "[fleet.columns]", "fleet.columns.topic", 8, "no table uses", "group_key"),
    "reserved in capitals": ("Shard = 'int'", "[fleet.columns]", "fleet.columns.Shard", 8, "no table uses", "Rename"),
    "label is reserved": ("label = 'int'", "[fleet.columns]", "fleet.columns.label", 8, "no table uses", ""),
    "unstorable": ('"a b" = "int"', "[fleet.columns]", "fleet.columns.a b", 8, "can be stored", ""),
    "quote in a name": ("\"a'b\" = 'int'", "[fleet.columns]", "fleet.columns.a'b", 8, "can be stored", ""),
    "differ in case": ("Price = 'int'", "[fleet.columns]", "fleet.columns.price", 10, "more than case", "Rename"),
    "id of another type": ("id = 'int'", "[fleet.columns]", "fleet.columns.id", 8, '"string"', ""),
    "time of another type": ("at = 'string'", "[fleet.columns]", "fleet.columns.at", 8, '"timestamp"', ""),
    "outcomes in events": ("outcomes = 'sales'", "[kafka]", "kafka.outcomes", 13, "another topic", "remove `outcomes`"),
    "predictions in events": ("predictions = 'sales'", "[kafka]", "kafka.predictions", 13, "another topic", ""),
    "empty topic": ("outcomes = ''", "[kafka]", "kafka.outcomes", 13, "a topic name", "remove the key"),
    "illegal topic": ("outcomes = 'a/b'", "[kafka]", "kafka.outcomes", 13, "a topic name", ""),
    "nothing lasts": ("duplicates_within = '0s'", "[kafka]", "kafka.duplicates_within", 13, "longer than nothing", ""),
    "an offset of one's own": (
        'options = { "auto.offset.reset" = "latest" }',
        "[kafka]",
        "kafka.options.auto.offset.reset",
        13,
        "does not set itself",
        "its own checkpoint",
    ),
    "number for an option": ("options = { a = 1 }", "[kafka]", "kafka.options.a", 13, "a string", ""),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_found_with_its_line_and_remedy(case: str) -> None:
    line, after, key, number, expected, remedy = WRONG[case]
    finding = only_finding(with_line(line, after))
    assert (finding.file, finding.line, finding.key) == ("fleet.toml", number, key)
    assert expected in finding.expected
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    "name",
    [
        *("acks", "enable.idempotence", "group.id", "Group.ID", "enable.auto.commit", "isolation.level"),
        *("key.deserializer", "value.serializer", "partitioner", "partitioner.class", "transactional.id"),
        *("bootstrap.servers", "metadata.broker.list"),
    ],
)
def test_an_option_that_the_fleet_sets_itself_is_refused_by_its_name(name: str) -> None:
    finding = only_finding(with_line(f'options = {{ "{name}" = "1" }}', after="[kafka]"))
    assert (finding.key, finding.got) == (f"kafka.options.{name}", f"`{name}`")


SECTIONS: dict[str, tuple[str, str, str]] = {
    "window shorter than the delay": ("[recipe]\nwindow = '0s'", "recipe.window", "longer than"),
    "fewer rows than needed": ("[recipe]\nwindow_rows = 10", "recipe.min_rows", "at most recipe.window_rows (10)"),
    "a date among params": ("[recipe.params]\nsince = 2013-01-01", "recipe.params.since", "finite number"),
    "an endless param": ("[recipe]\nparams = { alpha = inf }", "recipe.params.alpha", "finite number"),
    "a factor that always holds": (
        "[staleness]\nerror_rise = { factor = 1.0 }",
        "staleness.error_rise.factor",
        "more than 1",
    ),
    "shares of more than all": (
        "[budget]\noldest_first_share = 0.7\nrandom_share = 0.5",
        "budget.random_share",
        "at most 1",
    ),
    "a shadow that is the recipe": ("[shadow]\nestimator = 'linear'", "shadow.estimator", "another recipe"),
    "pooling without parents": ("[recipe]\npooling_rows = 20", "recipe.pooling_rows", "it only with `fleet.parents`"),
    "pooling by no rows": ("[recipe]\npooling_rows = 0", "recipe.pooling_rows", "more than 0"),
    "params of no shadow": ("[shadow]\nparams = { alpha = 1.0 }", "shadow.estimator", "a name beside shadow.params"),
    "an endless param of a shadow": (
        "[shadow]\nestimator = 'ridge'\nparams = { alpha = inf }",
        "shadow.params.alpha",
        "finite number",
    ),
    "a share of none": ("[shadow]\nestimator = 'constant'\nshare = 0.0", "shadow.share", "more than 0"),
    "a rule of nobody": ("[gate]\nrule = 'sometimes'", "gate.rule", '"not_worse", or "module:name"'),
    "a section of nobody": ("[stalenes]\nmax_age = '1d'", "stalenes", "a section of this file"),
    "a section that is none": ("[tracking]\nmode = 'rounds'", "tracking.mode", '"round" or'),
}


@pytest.mark.parametrize("case", SECTIONS)
def test_what_is_wrong_in_another_section_is_found(case: str) -> None:
    text, key, expected = SECTIONS[case]
    finding = only_finding(MINIMAL + text + "\n")
    assert finding.key == key
    assert expected in finding.expected


def test_a_key_that_does_nothing_yet_is_refused() -> None:
    finding = only_finding(with_line('options = { region = "eu-west-1" }', after="[storage]"))
    assert finding.key == "storage.options"
    assert finding.line is not None
    assert finding.remedy == "`storage.options` is not implemented yet: remove it."


def test_drift_is_recorded_unless_it_is_asked_to_trigger() -> None:
    assert not read(MINIMAL).staleness.drift.triggers
    drift = read(MINIMAL + "[staleness]\ndrift = { patience = '30d', triggers = true }\n").staleness.drift
    assert (drift.patience, drift.triggers) == (timedelta(days=30), True)


def test_a_policy_of_ones_own_is_named_by_its_module_and_a_built_in_one_is_not_listed() -> None:
    own = parse(MINIMAL + "[staleness]\npolicies = ['my_shop.policies:Weekend']\nschedule = '7d'\n", "fleet.toml", {})
    assert own.staleness.policies == ("my_shop.policies:Weekend",)
    assert own.staleness.schedule == timedelta(days=7)
    finding = only_finding(MINIMAL + "[staleness]\npolicies = ['max_age']\n")
    assert (finding.expected, finding.remedy) == (
        '"module:name" of a policy',
        "The built-in policies have keys of their own.",
    )


def test_a_rule_of_the_gate_is_the_built_in_one_or_one_of_a_users_own() -> None:
    assert parse(MINIMAL + "[gate]\nrule = 'my_gates:strict'\n", "fleet.toml", {}).gate.rule == "my_gates:strict"
    assert only_finding(MINIMAL + "[gate]\nrule = 'better'\n").expected == (
        '"not_worse", or "module:name" of a rule of your own'
    )


def test_a_key_that_does_nothing_yet_may_have_its_default() -> None:
    assert read(with_line("options = {}", after="[storage]")).storage.options == {}


@pytest.mark.parametrize("kind", ["double", "float", "decimal(9,2)", "timestamp"])
def test_a_group_is_not_made_of_numbers_with_a_point_or_of_times(kind: str) -> None:
    finding = only_finding(MINIMAL.replace('shop = "string"', f'shop = "{kind}"'))
    assert finding.key == "fleet.group[0]"
    assert kind in finding.got
    assert finding.expected.startswith("a key column of type string, boolean, tinyint")
    if kind == "double":
        assert "differs between engines" in finding.got


@pytest.mark.parametrize("kind", ["string", "boolean", "tinyint", "smallint", "int", "bigint", "date"])
def test_a_group_is_made_of_what_has_one_text(kind: str) -> None:
    assert read(MINIMAL.replace('shop = "string"', f'shop = "{kind}"')).fleet.columns["shop"] == kind


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('group = ["shop"]', 'group = ["shpo"]', "fleet.group[0]"),
        ('group = ["shop"]', 'group = ["shop", "shop"]', "fleet.group[1]"),
        ('group = ["shop"]', 'group = ["id"]', "fleet.group[0]"),
        ('group = ["shop"]', 'group = ["sold"]', "fleet.group[0]"),
        ('group = ["shop"]', "group = []", "fleet.group"),
        ('group = ["shop"]', 'group = ["a", "b", "c", "d", "e", "f"]', "fleet.group"),
        ('"sunny"]', '"suny"]', "fleet.features[1]"),
        ('"sunny"]', '"sold"]', "fleet.features[1]"),
        ('"sunny"]', '"id"]', "fleet.features[1]"),
        ('"sunny"]', '"price"]', "fleet.features[1]"),
        ('["price", "sunny"]', "[]", "fleet.features"),
        ('target = "sold"', 'target = "sould"', "fleet.target"),
        ('target = "sold"', 'target = "at"', "fleet.target"),
        ('sold = "int"', 'sold = "string"', "fleet.target"),
        ('event_id = "id"', 'event_id = "shard"', "fleet.event_id"),
        ('event_time = "at"', 'event_time = "event_id"', "fleet.event_time"),
        ('event_time = "at"', 'event_time = "id"', "fleet.event_time"),
        ('event_id = "id"', "", "fleet.event_id"),
        ('root = "work/sales"', "", "storage.root"),
        ("[kafka]\nevents", "[spark]\nevents", "kafka"),
    ],
)
def test_what_does_not_fit_together_is_found(old: str, new: str, key: str) -> None:
    assert old in MINIMAL
    assert only_finding(MINIMAL.replace(old, new)).key == key


def test_a_time_is_a_feature_like_any_other() -> None:
    assert read(MINIMAL.replace('"sunny"]', '"at"]')).fleet.features == ("price", "at")


@pytest.mark.parametrize("kind", ["double", "timestamp"])
def test_classes_are_not_numbers_with_a_point_or_times(kind: str) -> None:
    text = with_line('task = "classification"').replace('sold = "int"', f'sold = "{kind}"')
    assert only_finding(text).key == "fleet.target"


@pytest.mark.parametrize("loss", ["absolute", "squared"])
def test_classification_is_measured_by_the_log_loss(loss: str) -> None:
    finding = only_finding(with_line(f'task = "classification"\nloss = "{loss}"'))
    assert (finding.key, finding.line) == ("fleet.loss", 3)
    assert '"log"' in finding.expected


def test_a_target_may_be_called_label_and_the_fields_of_the_event_as_the_tables_have_them() -> None:
    text = MINIMAL.replace("sold", "label").replace('"id"', '"event_id"').replace('"at"', '"event_time"')
    assert read(text).fleet.target == "label"


def test_labels_must_be_awaited_as_long_as_they_take() -> None:
    late = with_line('outcomes = "receipts"', after="[kafka]")
    finding = only_finding(late.replace("[fleet]", '[fleet]\nlabel_delay = "3d"', 1))
    assert finding.key == "kafka.label_horizon"
    assert read(with_line('label_delay = "3d"')).record_schema.has_label_in_event


def test_the_taken_names_are_listed() -> None:
    finding = only_finding(with_line('topic = "string"', after="[fleet.columns]"))
    assert all(name in finding.remedy for name in RESERVED_NAMES)


def test_everything_that_is_wrong_is_found_at_once_in_the_order_of_the_file() -> None:
    text = (
        MINIMAL.replace("[fleet]", "[fleet]\nshard = 3\nlabel_delay = 6", 1)
        .replace('"sunny"]', '"suny"]')
        .replace('shop = "string"', 'shop = "double"')
    )
    found = findings(text + "[recipe]\nmin_rows = 0\n[gateway]\nport = 70000\n", SPINNEY_GATE__MARGIN="-1")
    assert [finding.key for finding in found] == [
        "SPINNEY_GATE__MARGIN",
        "fleet.shard",
        "fleet.label_delay",
        "fleet.group[0]",
        "fleet.features[1]",
        "recipe.min_rows",
        "gateway.port",
    ]


def test_a_wrong_value_does_not_accuse_those_that_hang_on_it() -> None:
    text = with_line("task = 'regresion'\nloss = 'log'")
    assert only_finding(text).key == "fleet.task"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[fleet]\nname = flights\n", 2),
        ('[fleet]\nname = "a"\nname = "b"\n', 3),
        ('[fleet]\nname = "open\n', 2),
        ("a = ", 1),
    ],
)
def test_what_is_no_toml_is_found_with_its_line(text: str, line: int) -> None:
    finding = only_finding(text)
    assert (finding.line, finding.expected) == (line, "TOML")


@pytest.mark.parametrize(
    ("variable", "value", "key", "expected"),
    [
        ("SPINNEY_KAFKA__BOOTSTRAP_SERVERS", "broker:9092", "kafka.bootstrap_servers", "broker:9092"),
        ("SPINNEY_KAFKA__OUTCOMES", "123", "kafka.outcomes", "123"),
        ("SPINNEY_BUDGET__SECONDS", "7", "budget.seconds", 7.0),
        ("SPINNEY_RECIPE__WINDOW", "30d", "recipe.window", timedelta(days=30)),
        ("SPINNEY_RECIPE__PARENTS__MAX_ROWS", "9", "recipe.parents.max_rows", 9),
        ("SPINNEY_STALENESS__ERROR_RISE__PATIENCE", "30d", "staleness.error_rise.patience", timedelta(days=30)),
        ("SPINNEY_FLEET__PARENTS", "[[]]", "fleet.parents", ((),)),
        ("SPINNEY_TRACKING__MODE", "off", "tracking.mode", "off"),
        ("SPINNEY_KAFKA__OPTIONS", '{ key = "v" }', "kafka.options", {"key": "v"}),
        ("SPINNEY_RECIPE__PARAMS__ALPHA", "0.5", "recipe.params", {"alpha": 0.5}),
    ],
)
def test_the_environment_overrides_the_file(variable: str, value: str, key: str, expected: Any) -> None:
    found: Any = read(MINIMAL, **{variable: value})
    for part in key.split("."):
        found = getattr(found, part)
    assert found == expected


def test_a_secret_from_the_environment_joins_the_options_of_the_file() -> None:
    text = with_line('options = { "security.protocol" = "SASL_SSL" }', after="[kafka]")
    config = read(text, SPINNEY_KAFKA__OPTIONS='{ "sasl.jaas.config" = "hush" }')
    assert config.kafka.options == {"security.protocol": "SASL_SSL", "sasl.jaas.config": "hush"}


def test_other_variables_are_not_ours() -> None:
    assert read(MINIMAL, SPINNEY_SIGNING_KEY="x", SPINNEY_DEBUG="1", KAFKA__EVENTS="x") == read()


@pytest.mark.parametrize(
    ("variable", "remedy"),
    [
        ("SPINNEY_KAFKA_EVENTS", "Did you mean `SPINNEY_KAFKA__EVENTS`?"),
        ("SPINNEY_KAFKA__EVENT", "Did you mean `SPINNEY_KAFKA__EVENTS`?"),
        ("SPINNEY_KAFA__EVENTS", "Did you mean `SPINNEY_KAFKA`?"),
    ],
)
def test_a_misspelt_override_is_refused(variable: str, remedy: str) -> None:
    finding = only_finding(MINIMAL, **{variable: "x"})
    assert (finding.file, finding.key, finding.remedy) == ("environment", variable, remedy)


def test_a_wrong_override_names_its_variable() -> None:
    finding = only_finding(MINIMAL, SPINNEY_BUDGET__SECONDS="-1")
    assert (finding.file, finding.line, finding.key) == ("environment", None, "SPINNEY_BUDGET__SECONDS")
    assert finding.expected == "a number, more than 0"


def test_the_values_in_effect_say_where_they_came_from() -> None:
    found = {setting.key: (setting.value, setting.origin) for setting in read(SPINNEY_BUDGET__SECONDS="7").effective()}
    assert found["kafka.events"] == ('"sales"', "fleet.toml:13")
    assert found["fleet.columns.price"] == ('"double"', "fleet.toml:9")
    assert found["budget.seconds"] == ("7.0", "environment SPINNEY_BUDGET__SECONDS")
    assert found["recipe.window"] == ('"90d"', "default")
    assert found["kafka.outcomes"] == ("(none)", "default")


@pytest.mark.parametrize(
    ("section", "option", "secret"),
    [
        ("kafka.options", "sasl.jaas.config", True),
        ("kafka.options", "ssl.key.password", True),
        ("kafka.options", "ssl.keystore.key", True),
        ("kafka.options", "security.protocol", False),
        ("kafka.options", "ssl.truststore.location", False),
        ("spark", "spark.hadoop.fs.s3a.secret.key", True),
        ("spark", "spark.driver.memory", False),
    ],
)
def test_secrets_are_masked_and_the_rest_is_not(section: str, option: str, secret: bool) -> None:
    config = read(MINIMAL + f'[{section}]\n"{option}" = "hush"\n')
    value = {setting.key: setting.value for setting in config.effective()}[f"{section}.{option}"]
    assert value == ("********" if secret else '"hush"')


def test_a_password_in_an_address_is_masked() -> None:
    config = read(MINIMAL + '[tracking]\nuri = "https://ann:hush@mlflow.example/x"\n')
    value = {setting.key: setting.value for setting in config.effective()}["tracking.uri"]
    assert value == '"https://ann:********@mlflow.example/x"'


def test_a_wrong_secret_is_not_shown() -> None:
    finding = only_finding(MINIMAL.replace("[storage]", "[storage]\noptions = { secret_key = 12345 }"))
    assert "12345" not in str(finding)


@pytest.mark.parametrize("section", ["kafka", "storage"])
def test_options_that_are_no_table_are_not_shown(section: str) -> None:
    finding = only_finding(MINIMAL.replace(f"[{section}]", f"[{section}]\noptions = 'password=hush'"))
    assert finding.key == f"{section}.options"
    assert "hush" not in str(finding)


def test_every_key_of_the_design_page_is_known() -> None:
    design = re.search(r"```toml\n(.*?)```", (_root() / "docs" / "design.md").read_text(encoding="utf-8"), re.DOTALL)
    assert design is not None
    for section, table in tomllib.loads(design[1]).items():
        if isinstance(table, dict) and section != "spark":
            model: Any = Config.model_fields[section].annotation
            assert set(table) <= set(model.model_fields), section


def test_the_example_of_the_flights_is_sound() -> None:
    path = _root() / "examples" / "flights" / "fleet.toml"
    assert parse(path.read_text(encoding="utf-8"), str(path), {}).fleet.name == "flights"


def _root() -> Path:
    return Path(__file__).parents[4]


def test_times_may_be_declared_as_numbers_with_their_unit() -> None:
    config = read(MINIMAL.replace('sunny = "boolean"', 'sunny = "boolean"\nat = "TIMESTAMP( ms )"\nseen = "timestamp"'))
    assert config.fleet.columns["at"] == "timestamp"
    assert [time_unit(config.fleet.columns[name]) for name in ("at", "seen", "price")] == ["ms", None, None]
    assert time_unit(pickle.loads(pickle.dumps(config)).fleet.columns["at"]) == "ms"
    shown = {setting.key: setting.value for setting in config.effective()}
    assert (shown["fleet.columns.at"], shown["fleet.columns.seen"]) == ('"timestamp(ms)"', '"timestamp"')
    assert "timestamp" not in config.record_schema.event_columns.get("at", "")


def test_an_unknown_unit_of_times_is_refused_by_name() -> None:
    finding = only_finding(MINIMAL.replace('sunny = "boolean"', 'sunny = "boolean"\nat = "timestamp(min)"'))
    assert finding.key == "fleet.columns.at"
    assert "The units of times are s, ms, us, ns, d (days) and year." in str(finding)


def test_fields_of_messages_are_named_for_columns_that_exist_and_each_once() -> None:
    config = read(with_line('fields = { price = "after.price", id = "Row ID" }'))
    assert config.fleet.fields == {"price": "after.price", "id": "Row ID"}
    assert (config.fleet.coerce, config.fleet.missing) == (True, ("",))
    finding = only_finding(with_line('fields = { prize = "after.price" }'))
    assert (finding.key, "price" in str(finding)) == ("fleet.fields.prize", True)
    twice = only_finding(with_line('fields = { price = "sunny" }'))
    assert twice.key == "fleet.fields.price"
    assert "read by `sunny`" in str(twice)
    assert only_finding(with_line('fields = { price = "p", sunny = "p" }')).key == "fleet.fields.sunny"


def test_only_estimators_whose_coefficients_can_be_shrunk_are_pooled() -> None:
    text = with_line("parents = [[]]") + "[recipe]\npooling_rows = 20\n"
    assert read(text).recipe.pooling_rows == 20
    finding = only_finding(text + 'estimator = "random_forest"\n')
    assert (finding.key, finding.got) == ("recipe.pooling_rows", '20 with "random_forest"')
    assert finding.expected == "it only with an estimator that can be pooled: linear, ridge"


def test_weights_of_pooling_are_estimated_only_along_nested_parents() -> None:
    estimated = '[recipe]\npooling_rows = "estimated"\n'
    assert read(with_line("parents = [[]]") + estimated).recipe.pooling_rows == "estimated"
    two = with_line('parents = [["shop"], ["sunny"]]').replace('group = ["shop"]', 'group = ["shop", "sunny"]')
    finding = only_finding(two + estimated)
    assert (finding.key, finding.got) == ("recipe.pooling_rows", '[["shop"], ["sunny"]]')
    finding = only_finding(with_line("parents = [[]]") + estimated.replace("estimated", "guessed"))
    assert (finding.key, finding.expected) == ("recipe.pooling_rows", 'a number of more than 0, or "estimated"')


def test_only_the_id_may_be_read_from_the_field_of_the_time() -> None:
    assert read(with_line('fields = { id = "at" }')).fleet.fields == {"id": "at"}
    assert read(with_line('fields = { id = "day", at = "day" }')).fleet.fields == {"id": "day", "at": "day"}
    assert only_finding(with_line('fields = { price = "at" }')).key == "fleet.fields.price"
    assert only_finding(with_line('fields = { id = "sold" }')).key == "fleet.fields.id"


@pytest.mark.parametrize(
    ("kept", "remembered", "days"), [("30d", "2h", 30), ("2d", "7d", 15), ("1h", "12h", 2), (None, "7d", None)]
)
def test_predictions_are_kept_while_copies_of_their_events_are_recognised_by_them(
    kept: str | None, remembered: str, days: int | None
) -> None:
    rule = "" if kept is None else f'[retention]\npredictions = "{kept}"\nhealth = "1d"\n'
    config = parse(fleet_toml(kafka=f'duplicates_within = "{remembered}"', more=rule), "fleet.toml", {})
    assert config.safe_retention.predictions == (None if days is None else timedelta(days=days))
    assert config.safe_retention.health == config.retention.health


@pytest.mark.parametrize(("outcomes", "days"), [('outcomes = "sold"', 13), ("", 2)])
def test_predictions_are_kept_while_late_labels_may_have_to_find_them_again(outcomes: str, days: int) -> None:
    kafka = f'duplicates_within = "2h"\nlabel_horizon = "6d"\n{outcomes}'
    config = parse(fleet_toml(kafka=kafka, more='[retention]\npredictions = "2d"\n'), "fleet.toml", {})
    assert config.safe_retention.predictions == timedelta(days=days)
