"""The checks of `spinney check`: whether everything that a fleet needs is there. They change nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from spinney.core.config import Config, Kafka
from spinney.core.errors import SpinneyError
from spinney.storage.layout import FleetStore

State = Literal["ok", "finding", "skipped"]
BROKER_SECONDS = 5.0
FREE_BYTES = 2 * 1024**3
"""Less free disk space than this, in bytes, is a finding: Spark's shuffles and state need space beside the tables."""

ACCEPT = "To read the new one from its start: spinney stream --accept-topic "


@dataclass(frozen=True)
class Result:
    """The result of one check. remedy: what to do; empty if nothing."""

    name: str
    state: State
    text: str
    remedy: str = ""


def run(config: Config, environment: Mapping[str, str] | None = None) -> list[Result]:
    """Return the result of every check, in the order in which things are needed. environment: os.environ if None."""
    environment = os.environ if environment is None else environment
    results = configuration(config)
    checks: tuple[tuple[str, Callable[[], list[Result]]], ...] = (
        ("java", lambda: [java(environment)]),
        ("jars", lambda: [jars(environment)]),
        ("kafka", lambda: [kafka(config.kafka)]),
        ("topics", lambda: topics(FleetStore.of(config), config.kafka)),
        ("storage", lambda: [storage(config.storage.root)]),
    )
    for name, check in checks:
        if name == "topics" and results[-1].state != "ok":
            results.append(Result(name, "skipped", "no broker to ask"))
            continue
        try:
            results += check()
        except SpinneyError as error:
            results.append(_refused(name, error))
    return [*results, *fleet(config), *estimator(config), *shadow(config), *policies(config), *gate_rule(config)]


def configuration(config: Config) -> list[Result]:
    """Report the keys that have no effect any more. All other keys were checked when the file was read."""
    from spinney.core.config.cross_checks import retired_keys

    retired = [key for name in type(config).model_fields for key in retired_keys(name, getattr(config, name))]
    if not retired:
        return [Result("configuration", "ok", "every key is known and fits the others")]
    return [
        Result("configuration", "finding", f"{key} has no effect any more", "Remove it: docs/configuration.md.")
        for key in retired
    ]


def java(environment: Mapping[str, str]) -> Result:
    """Check for Java 17 or 21. Raises SetupError: there is none."""
    from spinney.local.java import find

    found = find(environment)
    return Result("java", "ok", f"Java {found.version} at {found.home} ({found.source})")


def jars(environment: Mapping[str, str]) -> Result:
    """Check that the locked jars are present and intact. Missing ones are not fetched, which would take minutes."""
    from spinney.local import jars as locked

    folder = locked.cache_folder(environment) / "jars"
    wanted = locked.locked()
    lacking = [jar.name for jar in wanted if not locked.is_intact(jar, folder)]
    if lacking:
        text = f"{len(lacking)} of {len(wanted)} missing or damaged in {folder}: {', '.join(lacking[:3])} …"
        return Result("jars", "finding", text, "Fetch them: python -m spinney.local.java_and_jars")
    return Result("jars", "ok", f"{len(wanted)} in {folder}")


def kafka(settings: Kafka) -> Result:
    """Check that a broker answers. Raises Busy, ConfigError."""
    from spinney.kafka.client import existing_topics

    existing = existing_topics(settings, BROKER_SECONDS)
    return Result("kafka", "ok", f"{settings.bootstrap_servers} answers; {len(existing)} topics")


def topics(store: FleetStore, settings: Kafka) -> list[Result]:
    """Check that the topics exist, may be used, retain records and refuse future ones. Raises Busy, StoreError."""
    from spinney.kafka import topic_ids
    from spinney.kafka.client import topic_settings, topics_of
    from spinney.kafka.topic_metadata import Topic, describe_topics
    from spinney.local.checks.topic_checks import problems

    found = describe_topics(settings, topics_of(settings), BROKER_SECONDS)
    wrong = [
        Result(
            "topics",
            "finding",
            f"{topic.name}: was deleted and made again; a stream does not start",
            ACCEPT + topic.name,
        )
        for topic in topic_ids.recreated_topics(store, settings, found)
    ]
    settings_of = partial(topic_settings, settings)
    wrong += [Result("topics", "finding", *problem) for problem in problems(settings, found, settings_of)]
    described = [
        f"{topic.name} ({topic.partitions} partitions)" for topic in found.values() if isinstance(topic, Topic)
    ]
    return wrong or [Result("topics", "ok", ", ".join(described))]


def storage(uri: str) -> Result:
    """Check that the root of the tables is writable and has free space. Raises StoreError."""
    from spinney.storage.atomic_files import local_folder

    root = local_folder(uri)
    nearest = next(parent for parent in (root, *root.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        remedy = "Choose another storage.root, or give this user the right to write there."
        return Result("storage", "finding", f"{nearest} cannot be written: {error.strerror}", remedy)
    free = shutil.disk_usage(nearest).free
    if free < FREE_BYTES:
        remedy = f"Free at least {FREE_BYTES / 1e9:.0f} GB, or choose another storage.root."
        return Result("storage", "finding", f"{nearest} has {free / 1e9:.1f} GB left", remedy)
    state = "" if root.exists() else ", will be made"
    return Result("storage", "ok", f"{root}{state}; {free / 1e9:.0f} GB free")


def fleet(config: Config) -> list[Result]:
    """Report what the configuration changes for the fleet at its root; nothing if there is none yet."""
    from spinney.core.migration import mismatch_advice
    from spinney.core.migration.config_changes import Effect, config_changes
    from spinney.storage import charter, last_configuration

    store = FleetStore.of(config)
    made = charter.load_charter(store)
    if made is None:
        return []
    if made.unfinished_migration is not None:
        problem = f"a migration was begun at {made.unfinished_migration.at} and has not ended"
        return [Result("fleet", "finding", problem, f"{mismatch_advice.END_IT}.")]
    renamed = {name: former.now for name, former in charter.former_columns_of(store).items() if former.now is not None}
    found = config_changes(config, made.fixed, last_configuration.read_last_configuration(store), renamed)
    if not found:
        return [Result("fleet", "ok", f"nothing was edited since the fleet at {config.storage.root} ran last")]
    return [
        Result("fleet", "finding" if change.effect is Effect.REFUSED else "ok", str(change), change.remedy)
        for change in found
    ]


def estimator(config: Config) -> list[Result]:
    """Check the estimator on a synthetic group. Returns a result for each point that failed."""
    return _estimator("estimator", config)


def shadow(config: Config) -> list[Result]:
    """Check the shadow's estimator as if it were the recipe's; nothing if there is none."""
    shadow_recipe = config.shadow
    if shadow_recipe.estimator is None:
        return []
    recipe = config.recipe.model_copy(update={"estimator": shadow_recipe.estimator, "params": shadow_recipe.params})
    return _estimator("shadow", config.model_copy(update={"recipe": recipe, "shadow": type(shadow_recipe)()}))


def policies(config: Config) -> list[Result]:
    """Check a user's own policies on synthetic groups.

    Returns a result for each policy that cannot be loaded or point that fails.
    """
    from spinney.local.checks.policy_check import POINTS, PolicyCase, failed_policy_points

    try:
        cases = PolicyCase.all_of(config)
    except SpinneyError as error:
        return [_refused("policies", error)]
    results = []
    for case in cases:
        failures = failed_policy_points(case)
        name = f'"{case.policy.source}"'
        for failure in failures:
            text = f"{name}: {failure.point}: {failure.message}"
            results.append(Result("policies", "finding", text, failure.remedy))
        if not failures:
            results.append(Result("policies", "ok", f"{name} meets all {len(POINTS)} requirements"))
    return results


def gate_rule(config: Config) -> list[Result]:
    """Check a user's own rule of the gate on synthetic losses. Returns a result for each point that fails."""
    from spinney.local.checks.gate_check import POINTS, RuleCase, failed_rule_points

    try:
        case = RuleCase.of(config)
    except SpinneyError as error:
        return [_refused("gate.rule", error)]
    if case is None:
        return []
    name, failures = f'"{case.rule.source}"', failed_rule_points(case)
    if not failures:
        return [Result("gate.rule", "ok", f"{name} meets all {len(POINTS)} requirements")]
    return [
        Result("gate.rule", "finding", f"{name}: {failure.point}: {failure.message}", failure.remedy)
        for failure in failures
    ]


def _estimator(check: str, config: Config) -> list[Result]:
    from spinney.local.checks.estimator_check import POINTS, EstimatorCase, failed_points, fit_ms

    name = config.recipe.estimator
    try:
        case = EstimatorCase.of(config)
        failures = failed_points(case)
    except SpinneyError as error:
        return [_refused(check, error)]
    if failures:
        return [
            Result(check, "finding", f'"{name}": {failure.point}: {failure.message}', failure.remedy)
            for failure in failures
        ]
    text = f'"{name}" meets all {len(POINTS)} requirements; {fit_ms(case):.1f} ms for {len(case.rows)} toy rows'
    return [Result(check, "ok", text)]


def _refused(name: str, error: SpinneyError) -> Result:
    what, _, remedy = str(error).partition(". ")
    return Result(name, "finding", what, remedy)
