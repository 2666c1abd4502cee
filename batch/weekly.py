"""Refit all groups, the stale ones, or those named: ``spinney retrain``, ``spark-submit batch/weekly.py``.

The same plan → fit → gate → record as in the stream, stored part by part. If an earlier run was interrupted, the next
one first completes it. But if the recipe was edited since, or a day has passed, it is only closed: its stored results
stay, and its other groups count as deferred.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow.compute as pc
from pyspark.sql import SparkSession

from batch.estimate import estimate
from batch.group_selection import ALL, BatchView, Scope, initial_pace, plan_verdicts
from batch.recipe_changes import recipe_changes
from schemas import tables
from schemas.vocabulary import QueryName, RoundKind
from spinney import tracking
from spinney.core.config import Config
from spinney.core.errors import SpinneyError, exit_code
from spinney.core.planning.batch_parts import PartPacing, Progress
from spinney.core.recipes.recipe import Recipe
from spinney.core.staleness.judge import UNKNOWN_COST_MS
from spinney.retraining.fitting.local_fitting import MAX_GROUPS
from spinney.retraining.round_history import largest_round_groups
from spinney.retraining.round_request import RoundRequest
from spinney.retraining.rounds import Rounds
from spinney.spark.session import LazySession, SessionFactory, cores_of
from spinney.storage import charter, last_configuration, leases, signing_key
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore
from spinney.tables import delta

NAME = QueryName.WEEKLY.value
MAX_RESUME_AGE = timedelta(days=1)
"""Age up to which an interrupted round is continued; an older one is closed."""

Show = Callable[[str, Progress | str], None]
"""Called with texts about a change of the recipe before the round, and with its progress after each part."""


def retrain(
    config: Config,
    groups: Sequence[str] | None = None,
    *,
    stale: bool = False,
    unproven: bool = False,
    spark: SparkSession | SessionFactory | None = None,
    show: Show | None = None,
) -> dict[str, object] | None:
    """Retrain these groups, or all groups and parents, or the stale ones.

    groups: keys of groups or parents, with or without spaces in their JSON. unproven: whether models of a changed
    recipe may be promoted in a large share of the fleet without evidence. spark: a session, or a function that starts
    one; a few groups are fitted without it. Returns the round as recorded; None if there was nothing to do. Raises
    StoreError: a group was never seen. Busy: another batch runs. ContractError: evidence is missing.
    """
    start = LazySession(config, spark)
    scope = Scope.of(groups, stale=stale)
    store = FleetStore.of(config)
    with leases.held(store, [NAME]):
        charter.ensure_charter(store)
        delta.create_tables(store)
        if scope.which == ALL and largest_round_groups(store, RoundKind.BATCH) > MAX_GROUPS:
            start.start_in_background()  # it takes as long as the plan
        rounds = Rounds(start, config, signing_key.load_signer(store), RoundKind.BATCH, NAME)
        request = _end_unfinished(start, config, rounds, show)
        if request is None or not scope.which == ALL == request.asked_for:
            batch_id = rounds.next_batch()
            pace = _plan(start, config, rounds, _BatchPlan(batch_id, scope, unproven, show))
            done = rounds.carry_out(batch_id, pace, _progress_callback(f"batch-{batch_id}", show))
            request = None if done is None else done.request
    tracking.deliver_now(config)
    return None if request is None else recorded_round(store, request.round_id)


def _end_unfinished(start: SessionFactory, config: Config, rounds: Rounds, show: Show | None) -> RoundRequest | None:
    """Complete an interrupted round, and return its request; None if there was none to continue.

    If it has another recipe or is older than MAX_RESUME_AGE, it is only closed, since its plan is outdated.
    """
    unfinished = rounds.unfinished()
    if unfinished is None:
        return None
    batch_id, request = unfinished
    is_old = datetime.now(UTC) - request.now >= MAX_RESUME_AGE
    if is_old or request.recipe_id != Recipe.of(config).recipe_id:
        rounds.close(batch_id)
        return None
    last_configuration.write_last_configuration(config)
    pace = initial_pace(_cores_for(start, rounds, batch_id), config.budget, None)
    rounds.carry_out(batch_id, pace, _progress_callback(request.round_id, show))
    return request


@dataclass(frozen=True)
class _BatchPlan:
    """The request of a batch, before it is planned. unproven, show: as in `retrain`."""

    batch_id: int
    scope: Scope
    unproven: bool
    show: Show | None

    @property
    def round_id(self) -> str:
        """The id of the round."""
        return f"batch-{self.batch_id}"


def _plan(start: SessionFactory, config: Config, rounds: Rounds, batch: _BatchPlan) -> PartPacing:
    """Store the plan. Returns the initial pacing."""
    store = FleetStore.of(config)
    view = BatchView.now_of(store)
    rows = plan_verdicts(start, config, batch.scope, view)
    changes = recipe_changes(config, signing_key.load_signer(store), rows, batch.scope, view)
    if batch.show is not None:
        for line in changes.lines:
            batch.show(batch.round_id, line)
    if not batch.unproven:
        changes.require_evidence()
    predicted = rows.column("predicted_ms")
    mean_ms = pc.mean(predicted).as_py()
    by_policy = rows.group_by("policy").aggregate([("group_key", "count")])
    request = RoundRequest(
        round_id=batch.round_id,
        groups_in=rows.num_rows,
        deferred=0,
        reasons=dict(zip(by_policy["policy"].to_pylist(), by_policy["group_key_count"].to_pylist(), strict=True)),
        clock=view.clock,
        now=view.now,
        budget_seconds=None,
        predicted_seconds=rows.num_rows * (UNKNOWN_COST_MS if mean_ms is None else mean_ms) / 1000,
        pins=view.pins,
        asked_for=batch.scope.which,
        recipe_id=Recipe.of(config).recipe_id,
        unproven=batch.unproven,
    )
    rounds.plan(rows, request, batch.batch_id)
    last_configuration.write_last_configuration(
        config
    )  # not before: a refused batch leaves the earlier configuration in effect
    return initial_pace(_cores_for(start, rounds, batch.batch_id), config.budget, mean_ms)


def _cores_for(start: SessionFactory, rounds: Rounds, batch_id: int) -> int:
    """Return the number of cores on which a planned round is fitted. Spark is started for a round that needs it."""
    return 1 if rounds.is_fitted_locally(batch_id) else cores_of(start())


def _progress_callback(round_id: str, show: Show | None) -> Callable[[Progress], None] | None:
    return None if show is None else lambda progress: show(round_id, progress)


def recorded_round(store: FleetStore, round_id: str) -> dict[str, object] | None:
    """Return the round's row of `rounds`, its JSON columns as objects."""
    for row in delta.read_table(store, tables.ROUNDS, where=pc.field("round_id") == round_id).to_pylist():
        written = ("reasons", "seconds", "pins")
        return {name: json.loads(value) if name in written else value for name, value in row.items()}
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit code."""
    parser = argparse.ArgumentParser(prog="batch/weekly.py", description=__doc__)
    parser.add_argument("--config", default="fleet.toml", help="the fleet's configuration")
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--group", action="append", help="only this group_key; may be repeated")
    some.add_argument("--stale", action="store_true", help="only groups that are stale")
    parser.add_argument("--unproven", action="store_true", help="promote another recipe without evidence too")
    parser.add_argument("--dry-run", action="store_true", help="fit a sample, store nothing, say what all would take")
    options = parser.parse_args(arguments)
    try:
        config = read_config(options.config)
        if options.dry_run:
            result: object = estimate(config, options.group, stale=options.stale).__dict__
        else:
            result = retrain(
                config, options.group, stale=options.stale, unproven=options.unproven, show=_print_progress
            )
    except SpinneyError as error:
        sys.stderr.write(f"spinney: {error}\n")
        return exit_code(error)
    sys.stdout.write(json.dumps(result, default=str) + "\n")
    return 0


def _print_progress(round_id: str, progress: Progress | str) -> None:
    sys.stderr.write(f"{round_id}: {progress}\n")


if __name__ == "__main__":
    sys.exit(main())
