"""Fit many groups in worker processes, so that a crash, a hang or a leak in one group's fit costs no other its model.

A persistent worker fits block after block, each block in one piece. When it dies or exceeds the time limit:

- If the death can be attributed to a group, that group is fitted alone in a new worker, and the rest in smaller pieces.
- If not, the piece is halved.
- A group is marked failed only after it has killed two workers, the second time while it was alone.

The cost is bounded. A bad group kills two workers, and about 2 log2(MAX_PIECE_AFTER_DEATH) more if its deaths cannot be
attributed. Each death repeats the work on one piece.

- An estimator that kills every worker: after MAX_GROUPS_GIVEN_UP failed groups and no success, the same number of
  groups, spread over the rest, are probed; in later blocks one group. If none is fitted, the other groups fail untried.
  One success ends this.
- Out of memory: a group that ran out of memory beside others is fitted again alone. After TRUSTED_AFTER consecutive
  groups that ran out of memory alone too, one group per piece is retried and the other results are trusted.
- A shadow recipe, champion, predecessor, parent's model or refitted recipe that kills the worker costs its group that
  comparison, not its model. A shadow, parent's model or refitted recipe that kills the worker in
  MAX_COMPARISON_DEATHS groups of a task is not tried in the other groups. Groups that are pooled with a parent's model
  that cannot be read fail.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from schemas.vocabulary import ModelStatus
from spinney.core.errors import ContractError, FitFailed, TimedOut
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training import current_group
from spinney.core.training.estimators import kernel_for
from spinney.core.training.fit_attempt import failed_result
from spinney.core.training.fitting import fit_groups
from spinney.workers.group_block import (
    MAX_PIECE_AFTER_DEATH,
    FitTables,
    GroupBlock,
    Piece,
    cut_pieces,
    ran_out_of_memory,
)
from spinney.workers.persistent_worker import PersistentWorker
from spinney.workers.preloading import preload
from spinney.workers.worker_process import IDLE, Limits, WorkerChannel, WorkerDied, run_supervised

MAX_COPIED_BYTES = 64 << 20
"""Largest block, in bytes, that is copied to the persistent worker. A larger one (many large champions) is fitted in a
fork, which shares the memory.
"""

MAX_GROUPS_GIVEN_UP = 10
"""Failed groups, with none fitted, after which only probes are fitted."""

TRUSTED_AFTER = 10
"""After this many consecutive groups that ran out of memory alone too, a piece's results of this kind are trusted."""

MAX_COMPARISON_DEATHS = 3
"""Groups in which a shadow, a refitted recipe or one parent's model killed its worker, after which it is not tried in
other groups."""

MAKE_ESTIMATOR = "while recipe.estimator was called"
_COMPARISONS = (
    current_group.REFIT,
    current_group.READ_CHAMPION,
    current_group.PREDICT_CHAMPION,
    current_group.READ_PARENT,
    current_group.PREDICT_PARENT,
    current_group.PREDECESSOR,
    current_group.SHADOW,
)
"""Activities for comparisons: if one kills the worker, the group still gets its model, or fails by itself."""
NOT_TRIED_PREFIX = "not tried: elsewhere "
_STATUSES_OF_FITS = {ModelStatus.FITTED.value, ModelStatus.FAILED.value}


@dataclass(frozen=True)
class FitSettings:
    """Settings of fits: the arguments of `fit_groups` and the limits of its worker."""

    recipe: Recipe
    clock: datetime
    signer: Signer
    limits: Limits = field(default_factory=Limits)

    def fit_pieces(self, channel: WorkerChannel, block: GroupBlock, pieces: list[Piece]) -> None:
        """Fit the pieces of a block and send each result. Runs in the worker."""
        channel.begin(None, MAKE_ESTIMATOR)
        kernel_for(self.recipe.estimator, self.recipe.task, self.recipe.arguments)
        for piece in pieces:
            channel.begin(None, current_group.FIT)
            with current_group.reported_to(_report_progress(channel, block, piece)):
                channel.send(fit_groups(*block.rows_and_requests_of(piece), self.recipe, self.clock, self.signer))

    def fit_tables(self, channel: WorkerChannel, blocks: Iterator[list[pa.Table]]) -> None:
        """Fit block after block and send each result. blocks: each has the two tables of FitTables. Runs in the
        persistent worker.
        """
        channel.begin(None, MAKE_ESTIMATOR)
        kernel_for(self.recipe.estimator, self.recipe.task, self.recipe.arguments)
        for tables in blocks:
            block = GroupBlock(FitTables(*tables))
            with current_group.reported_to(_report_progress(channel, block, list(range(block.n_groups)))):
                channel.send(fit_groups(block.rows, block.requests, self.recipe, self.clock, self.signer))

    def with_failed_shadow(self, group_key: str, died: WorkerDied) -> FitSettings:
        """Return these settings with the shadow recorded as failed in this group and not tried there again."""
        return self._with_shadow(failed_groups=((group_key, f"{died.error_class}: {died.text}"),))

    def without_shadow(self, reason: str) -> FitSettings:
        """Return these settings with the shadow tried in no group. reason: recorded in each group."""
        return self._with_shadow(disabled_reason=f"{NOT_TRIED_PREFIX}{reason}")

    def without_refits(self, died: WorkerDied, prefix: str = "") -> FitSettings:
        """Return these settings with no champion's recipe fitted again. died: gives the recorded reason. prefix: put
        before it.
        """
        return replace(self, recipe=replace(self.recipe, refit_error=f"{prefix}{died.error_class}: {died.text}"))

    def without_champions(self, died: WorkerDied) -> FitSettings:
        """Return these settings with no champion loaded or called for a comparison."""
        return replace(self, recipe=replace(self.recipe, champion_error=f"{died.error_class}: {died.text}"))

    def without_predecessors(self, died: WorkerDied) -> FitSettings:
        """Return these settings with no champion's predecessor loaded or called."""
        return replace(self, recipe=replace(self.recipe, predecessor_error=f"{died.error_class}: {died.text}"))

    def without_parent(self, model_id: str, died: WorkerDied, prefix: str = "") -> FitSettings:
        """Return these settings with this parent's model not loaded, or not called, depending on what killed the
        worker.

        prefix: put before the recorded reason.
        """
        recipe, named = self.recipe, (model_id, f"{prefix}{died.error_class}: {died.text}")
        if died.activity == current_group.READ_PARENT:
            return replace(self, recipe=replace(recipe, unread_parents=(*recipe.unread_parents, named)))
        return replace(self, recipe=replace(recipe, unasked_parents=(*recipe.unasked_parents, named)))

    def _with_shadow(self, **changed: Any) -> FitSettings:
        assert self.recipe.shadow is not None
        return replace(self, recipe=replace(self.recipe, shadow=replace(self.recipe.shadow, **changed)))


@dataclass
class SupervisedFitter:
    """Fits one block after the other. Deaths are counted over all blocks, so a task uses one object of this class."""

    settings: FitSettings
    _persistent_worker: PersistentWorker | None = None
    _groups_given_up: int = 0
    _shadow_failures: int = 0
    _refit_failures: int = 0
    _parent_failures: Counter[str] = field(default_factory=Counter)
    _confirmed_out_of_memory: int = 0
    _probes_left: int = MAX_GROUPS_GIVEN_UP
    _has_fitted: bool = False

    def fit(self, tables: FitTables) -> list[tuple[Piece, pd.DataFrame]]:
        """Fit a block: the results of `fit_groups` by piece, each with its groups' positions among the requests.

        Raises the errors of `fit_groups`, and ContractError if constructing `recipe.estimator` kills the worker.
        """
        preload(self.settings.recipe)
        block = GroupBlock(tables)
        remaining, size, is_whole = list(range(block.n_groups)), block.n_groups, tables.nbytes <= MAX_COPIED_BYTES
        while remaining and (not self._is_estimator_doubtful or self._probe(block, remaining)):
            pieces = cut_pieces(remaining, size)
            done, died = self._fit_in_worker(block, pieces, is_whole=is_whole and len(remaining) == block.n_groups)
            is_whole, remaining = False, remaining[sum(map(len, pieces[:done])) :]
            if block.out_of_memory:
                again, size = self._retry_out_of_memory(block, len(pieces[done - 1]))
                remaining = [*again, *remaining]
            elif died is None or died.activity == IDLE:
                continue  # all is done, or the worker died before it received the block
            elif died.activity == current_group.SHADOW and died.place is None:
                self._give_up_shadow(died.text)
            elif remaining:
                suspect = attributed_group(pieces[done], died)
                if suspect is not None:
                    remaining.remove(suspect)
                    self._fit_alone(block, suspect, died)
                size = _half(len(pieces[done]))
        for place in remaining:
            self._add_failure(block, self._not_tried(block.key(place)), place)
        return block.results

    @property
    def _is_estimator_doubtful(self) -> bool:
        return not self._has_fitted and self._groups_given_up >= MAX_GROUPS_GIVEN_UP

    def _probe(self, block: GroupBlock, remaining: Piece) -> bool:
        """Fit some groups, spread over the remaining ones, each alone. Return whether one was fitted.

        Groups that did not kill their worker are removed from `remaining`.
        """
        able = [place for place in remaining if block.rows_per_group[place] >= max(1, self.settings.recipe.min_rows)]
        count = min(self._probes_left, len(able))
        for nth in range(count):
            place = able[(2 * nth + 1) * len(able) // (2 * count)]
            _, died = self._fit_in_worker(block, [[place]])
            if died is None:
                remaining.remove(place)
            if self._has_fitted:
                return True
        self._probes_left = max(1, self._probes_left - count)
        return False

    def _retry_out_of_memory(self, block: GroupBlock, size: int) -> tuple[Piece, int]:
        """Fit one of the groups that ran out of memory again, alone. Return the groups to fit again, and the size of
        pieces.

        size: number of groups of the piece in which they ran out of memory. If TRUSTED_AFTER such results were
        confirmed before, and this one is confirmed too, the results of the others are trusted and no group is fitted
        again.
        """
        out_of_memory, is_trusted = block.pop_out_of_memory(), self._confirmed_out_of_memory >= TRUSTED_AFTER
        # The last one had the most groups before it in the worker.
        suspect = list(out_of_memory)[-1 if is_trusted else 0]
        del out_of_memory[suspect]
        self._fit_alone(block, suspect)
        self._count_confirmation(block.results[-1][1])
        if not is_trusted or not self._confirmed_out_of_memory:
            return list(out_of_memory), _half(size)
        block.results.extend(([place], fitted) for place, fitted in out_of_memory.items())
        return [], min(2 * size, MAX_PIECE_AFTER_DEATH)

    def _count_confirmation(self, alone: pd.DataFrame) -> None:
        self._confirmed_out_of_memory = self._confirmed_out_of_memory + 1 if ran_out_of_memory(alone).any() else 0
        shadow = json.loads(str(alone["metrics"].iat[0])).get("shadow", {}).get("error") or ""
        if "MemoryError" in shadow:
            self._shadow_failures += 1
            if self._shadow_failures == MAX_COMPARISON_DEATHS:
                self._give_up_shadow("it lacked memory. Fit fewer rows, or raise recipe.memory_limit_mib")

    def close(self) -> None:
        """Stop the persistent worker."""
        if self._persistent_worker is not None:
            self._persistent_worker.close()
        self._persistent_worker = None

    def _fit_in_worker(
        self, block: GroupBlock, pieces: list[Piece], settings: FitSettings | None = None, *, is_whole: bool = False
    ) -> tuple[int, WorkerDied | None]:
        """Fit pieces in one worker. Return how many it fitted, and how it died, if it did.

        is_whole: the pieces are the whole block; the persistent worker fits it.
        """
        settings = settings or self.settings
        done, died = self._fit_in_worker_once(block, pieces, settings, is_whole=is_whole)
        if died is not None and died.activity == MAKE_ESTIMATOR:
            # A single death may have an outside cause, such as short memory.
            done, died = self._fit_in_worker_once(block, pieces, settings, is_whole=is_whole)
        if died is not None and died.activity == MAKE_ESTIMATOR:
            name = settings.recipe.estimator
            raise ContractError(f"recipe.estimator {name}: expected an estimator; got none: {died.text}") from died
        return done, died

    def _fit_in_worker_once(
        self, block: GroupBlock, pieces: list[Piece], settings: FitSettings, *, is_whole: bool
    ) -> tuple[int, WorkerDied | None]:
        is_alone, done = pieces == [pieces[0][:1]] and not is_whole, 0
        if is_whole:
            made = self._persistent_results(block)
        else:
            block.prepare()
            made = run_supervised(lambda channel: settings.fit_pieces(channel, block, pieces), settings.limits)
        try:
            with closing(made):
                for fitted in made:
                    block.add_results(pieces[done], fitted, is_alone=is_alone)
                    self._has_fitted = self._has_fitted or bool(_STATUSES_OF_FITS & set(fitted["status"]))
                    done += 1
                    if block.out_of_memory:  # the worker has no memory left: stop it
                        self.close()
                        break
        except WorkerDied as died:
            self._has_fitted = self._has_fitted or died.activity == current_group.SHADOW  # which comes last
            return done, died
        return done, None

    def _persistent_results(self, block: GroupBlock) -> Generator[pd.DataFrame, None, None]:
        if self._persistent_worker is None:
            self._persistent_worker = PersistentWorker(self.settings.fit_tables, self.settings.limits)
        yield self._persistent_worker.run(block.tables.rows, block.tables.requests)

    def _give_up_shadow(self, reason: str) -> None:
        self.close()
        self.settings = self.settings.without_shadow(reason)

    def _fit_alone(self, block: GroupBlock, place: int, died: WorkerDied | None = None) -> None:
        """Fit a group alone, and record its failure if that kills the worker.

        died: how the group killed a worker before. If None, its failure is recorded only after it has killed two
        workers.
        """
        for _ in range(2 if died is None else 1):
            _, died = self._fit_in_worker(block, [[place]])
            if died is None:
                return
        settings, comparisons = self.settings, set(_COMPARISONS)
        while died is not None and died.activity in comparisons:
            comparisons.remove(died.activity)
            settings = self._without_comparison(settings, block, place, died)
            _, died = self._fit_in_worker(block, [[place]], settings)
        if died is None:
            return
        key, words = block.key(place), died.text
        error = TimedOut(key, words) if died.has_timed_out else FitFailed(key, died.error_class, words)
        self._add_failure(block, error, place, died.elapsed_ms)
        self._groups_given_up += 1

    def _without_comparison(
        self, settings: FitSettings, block: GroupBlock, place: int, died: WorkerDied
    ) -> FitSettings:
        """The settings without the comparison that killed the worker.

        After MAX_COMPARISON_DEATHS groups the rest of the task goes without this comparison too. Comparisons with
        champions and predecessors are excepted, since each is a different model.
        """
        if died.activity == current_group.SHADOW:
            self._shadow_failures += 1
            if self._shadow_failures == MAX_COMPARISON_DEATHS:
                self._give_up_shadow(died.text)
            return settings.with_failed_shadow(block.key(place), died)
        if died.activity == current_group.REFIT:
            self._refit_failures += 1
            if self._refit_failures == MAX_COMPARISON_DEATHS:
                self.close()
                self.settings = self.settings.without_refits(died, NOT_TRIED_PREFIX)
            return settings.without_refits(died)
        if died.activity in (current_group.READ_PARENT, current_group.PREDICT_PARENT):
            parent = block.parent_id(place)
            self._parent_failures[parent] += 1
            if self._parent_failures[parent] == MAX_COMPARISON_DEATHS:
                self.close()
                self.settings = self.settings.without_parent(parent, died, NOT_TRIED_PREFIX)
            return settings.without_parent(parent, died)
        if died.activity == current_group.PREDECESSOR:
            return settings.without_predecessors(died)
        return settings.without_champions(died)

    def _add_failure(self, block: GroupBlock, error: FitFailed, place: int, ms: float = 0.0) -> None:
        rows, _ = block.rows_and_requests_of([place])
        block.results.append(([place], failed_result(rows, error, self.settings.recipe, self.settings.clock, ms)))

    def _not_tried(self, group_key: str) -> FitFailed:
        text = (
            f"not tried, or only once: the first {self._groups_given_up} groups ended their processes or did not end "
            "in time, and of others here and there none was fitted. Mend the estimator, or raise recipe.time_limit"
        )
        return FitFailed(group_key, "NotTried", text)


def _half(size: int) -> int:
    return max(1, min(size, MAX_PIECE_AFTER_DEATH) // 2)


def _report_progress(channel: WorkerChannel, block: GroupBlock, piece: Piece) -> current_group.Listener:
    """A listener that reports each group to the parent by its position in the block."""
    places = {block.key(place): place for place in piece}
    return lambda key, doing: channel.begin(None if key is None else places[key], doing)


def attributed_group(piece: Piece, died: WorkerDied) -> int | None:
    """Return the group that killed the worker; None if unknown.

    If memory was short, the last status may be of an earlier piece; then the group is unknown.
    """
    if len(piece) == 1:
        return piece[0]
    return died.place if died.place in piece else None
