"""Fit many groups in worker processes, so that a crash, a hang or a leak in one group's fit costs no other its model.

A persistent worker fits block after block, each block in one piece. When it dies or exceeds the time limit:

- If the death can be attributed to a group, that group is fitted alone in a new worker, and the rest in smaller pieces.
- If not, the piece is halved.
- A group is marked failed only after it has killed two workers, the second time while it was alone.

The cost is bounded. A bad group kills two workers, and about 2 log2(MAX_PIECE_AFTER_DEATH) more if its deaths cannot be
attributed. Each death repeats the work on one piece.

- An estimator that kills every worker: after MAX_GROUPS_GIVEN_UP failed groups and no success, as many groups spread
  over the rest are probed, later one per block. If none is fitted, the others fail untried. One success ends this.
- Out of memory: a group that ran out of memory beside others is fitted again alone. After TRUSTED_AFTER consecutive
  groups that ran out of memory alone too, one group per piece is retried and the other results are trusted.
- A shadow recipe, champion or refitted recipe that kills the worker costs its group that comparison, not its model. A
  shadow or refitted recipe that does so in MAX_COMPARISON_DEATHS groups of a task is not tried in the others.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib import import_module
from typing import Any

import pandas as pd
import pyarrow as pa

from schemas.vocabulary import ModelStatus
from spinney.core.errors import ConfigError, ContractError, FitFailed, TimedOut
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe, candidates
from spinney.core.training import current_group
from spinney.core.training.catalog import resolve
from spinney.core.training.estimators import kernel_for
from spinney.core.training.fitting import failed, fit_groups
from spinney.workers.fit_block import FitBlock, Parted, Piece, lacked_memory
from spinney.workers.persistent_worker import Steady
from spinney.workers.worker_process import IDLE, Died, Limits, Line, supervised

MOST_AT_RISK = 64
"""Most groups of one piece after a worker has died."""

MOST_HANDED_BYTES = 64 << 20
"""A larger block (many large champions) is not copied to the persistent worker but fitted in a fork that shares it."""

HOPELESS = 10
"""Failed groups, with none fitted, after which only probes are fitted."""

REPEATED = 10
"""Consecutive groups that ran out of memory alone too, after which such results of a piece are trusted."""

SPOILED = 3
"""Groups in which a shadow or refitted recipe killed its worker, after which it is not tried in other groups."""

MAKING = "while recipe.estimator was called"
_COMPARISONS = (current_group.REFIT, current_group.READ_CHAMPION, current_group.ASK_CHAMPION, current_group.SHADOW)
"""Activities without which a group still gets its model."""
_TRIED = {ModelStatus.FITTED.value, ModelStatus.FAILED.value}


@dataclass(frozen=True)
class Fits:
    """How groups are fitted: the arguments of `fit_groups` and the limits of its worker."""

    recipe: Recipe
    clock: datetime
    signer: Signer
    limits: Limits = field(default_factory=Limits)

    def work(self, line: Line, block: FitBlock, pieces: list[Piece]) -> None:
        """Fit the pieces of a block and send each result. Runs in the worker."""
        line.turn(None, MAKING)
        kernel_for(self.recipe.estimator, self.recipe.task, self.recipe.arguments)
        for piece in pieces:
            line.turn(None, current_group.FIT)
            with current_group.heard_by(_told(line, block, piece)):
                line.send(fit_groups(*block.part(piece), self.recipe, self.clock, self.signer))

    def work_on(self, line: Line, tables: Iterator[pa.Table], parted: Parted) -> None:
        """Fit each table as one block and send its result. Runs in the persistent worker."""
        line.turn(None, MAKING)
        kernel_for(self.recipe.estimator, self.recipe.task, self.recipe.arguments)
        for table in tables:
            block = FitBlock(table, parted)
            with current_group.heard_by(_told(line, block, list(range(block.count)))):
                line.send(fit_groups(block.rows, block.asks, self.recipe, self.clock, self.signer))

    def spoiled(self, group_key: str, died: Died) -> Fits:
        """These settings, with the shadow recorded as failed in this group and not tried there again."""
        return self._with_shadow(spoiled=((group_key, f"{died.error_class}: {died.text}"),))

    def without_shadow(self, why: str) -> Fits:
        """These settings, with the shadow tried in no group. reason: recorded in each group."""
        return self._with_shadow(given_up=f"not tried: elsewhere {why}")

    def without_earlier(self, died: Died, where: str = "") -> Fits:
        """These settings, with no champion's recipe fitted again. prefix: put before the recorded error."""
        return replace(self, recipe=replace(self.recipe, refit_error=f"{where}{died.error_class}: {died.text}"))

    def without_champions(self, died: Died) -> Fits:
        """These settings, with no champion loaded or called for a comparison."""
        return replace(self, recipe=replace(self.recipe, champion_error=f"{died.error_class}: {died.text}"))

    def _with_shadow(self, **changed: Any) -> Fits:
        assert self.recipe.shadow is not None
        return replace(self, recipe=replace(self.recipe, shadow=replace(self.recipe.shadow, **changed)))


@dataclass
class Supervised:
    """Fits one block after the other. Deaths are counted over all blocks, so a task has one of these."""

    fits: Fits
    parted: Parted
    _steady: Steady | None = None
    _given_up: int = 0
    _spoiled: int = 0
    _refits_died: int = 0
    _repeated: int = 0
    _to_try: int = HOPELESS
    _works: bool = False

    def fit(self, table: pa.Table) -> list[tuple[Piece, pd.DataFrame]]:
        """Fit a block: the results of `fit_groups` by piece, each with its groups' positions among the requests.

        Raises what `fit_groups` raises, and ContractError if making `recipe.estimator` kills the worker.
        """
        _warm(self.fits.recipe)
        block = FitBlock(table, self.parted)
        rest, size, at_once = list(range(block.count)), block.count, table.nbytes <= MOST_HANDED_BYTES
        while rest and (not self._hopeless or self._finds_hope(block, rest)):
            pieces = _pieces(rest, size)
            done, died = self._try(block, pieces, at_once=at_once and len(rest) == block.count)
            at_once, rest = False, rest[sum(map(len, pieces[:done])) :]
            if block.short:
                again, size = self._try_short(block, len(pieces[done - 1]))
                rest = [*again, *rest]
            elif died is None or died.doing == IDLE:
                continue  # all is done, or the worker died before it received the block
            elif died.doing == current_group.SHADOW and died.at is None:
                self._without_shadow(died.text)
            elif rest:
                suspect = _suspect(pieces[done], died)
                if suspect is not None:
                    rest.remove(suspect)
                    self._alone(block, suspect, died)
                size = _half(len(pieces[done]))
        for place in rest:
            self._give_up(block, self._untried(block.key(place)), place)
        return block.fitted

    @property
    def _hopeless(self) -> bool:
        return not self._works and self._given_up >= HOPELESS

    def _finds_hope(self, block: FitBlock, rest: Piece) -> bool:
        """Fit some groups, spread over the remaining ones, each alone. Return whether one was fitted.

        Groups that did not kill their worker are removed from `remaining`.
        """
        able = [place for place in rest if block.sizes[place] >= max(1, self.fits.recipe.min_rows)]
        count = min(self._to_try, len(able))
        for nth in range(count):
            place = able[(2 * nth + 1) * len(able) // (2 * count)]
            _, died = self._try(block, [[place]])
            if died is None:
                rest.remove(place)
            if self._works:
                return True
        self._to_try = max(1, self._to_try - count)
        return False

    def _try_short(self, block: FitBlock, size: int) -> tuple[Piece, int]:
        """Fit one of the groups that ran out of memory alone. Return which ones to fit again, and the piece size.

        size: groups of the piece in which they ran out. If enough such results were confirmed before, and this one is
        too, the results of the others are trusted and none is fitted again.
        """
        short, believes = block.taken_short(), self._repeated >= REPEATED
        suspect = list(short)[-1 if believes else 0]  # the last one had the most groups before it in the worker
        del short[suspect]
        self._alone(block, suspect)
        self._note_repeated(block.fitted[-1][1])
        if not believes or not self._repeated:
            return list(short), _half(size)
        block.fitted.extend(([place], fitted) for place, fitted in short.items())
        return [], min(2 * size, MOST_AT_RISK)

    def _note_repeated(self, alone: pd.DataFrame) -> None:
        self._repeated = self._repeated + 1 if lacked_memory(alone).any() else 0
        shadow = json.loads(str(alone["metrics"].iat[0])).get("shadow", {}).get("error") or ""
        if "MemoryError" in shadow:
            self._spoiled += 1
            if self._spoiled == SPOILED:
                self._without_shadow("it lacked memory. Fit fewer rows, or raise recipe.memory_limit_mib")

    def close(self) -> None:
        """Stop the persistent worker."""
        if self._steady is not None:
            self._steady.close()
        self._steady = None

    def _try(
        self, block: FitBlock, pieces: list[Piece], fits: Fits | None = None, *, at_once: bool = False
    ) -> tuple[int, Died | None]:
        """Fit pieces in one worker. Return how many it fitted, and how it died, if it did.

        is_whole: the pieces are the whole block; the persistent worker fits it.
        """
        fits = fits or self.fits
        done, died = self._try_once(block, pieces, fits, at_once=at_once)
        if died is not None and died.doing == MAKING:  # a single death may have an outside cause, such as short memory
            done, died = self._try_once(block, pieces, fits, at_once=at_once)
        if died is not None and died.doing == MAKING:
            name = fits.recipe.estimator
            raise ContractError(f"recipe.estimator {name}: expected an estimator; got none: {died.text}") from died
        return done, died

    def _try_once(self, block: FitBlock, pieces: list[Piece], fits: Fits, *, at_once: bool) -> tuple[int, Died | None]:
        is_alone, done = pieces == [pieces[0][:1]] and not at_once, 0
        if at_once:
            made = self._kept(block)
        else:
            block.prepare()
            made = supervised(lambda line: fits.work(line, block, pieces), fits.limits)
        try:
            with closing(made):
                for fitted in made:
                    block.take(pieces[done], fitted, is_alone=is_alone)
                    self._works = self._works or bool(_TRIED & set(fitted["status"]))
                    done += 1
                    if block.short:  # the worker has no memory left: stop it
                        self.close()
                        break
        except Died as died:
            self._works = self._works or died.doing == current_group.SHADOW  # which comes last
            return done, died
        return done, None

    def _kept(self, block: FitBlock) -> Generator[pd.DataFrame, None, None]:
        if self._steady is None:
            fits, parted = self.fits, self.parted
            self._steady = Steady(lambda line, tables: fits.work_on(line, tables, parted), fits.limits)
        yield self._steady.ask(block.table)

    def _without_shadow(self, why: str) -> None:
        self.close()
        self.fits = self.fits.without_shadow(why)

    def _alone(self, block: FitBlock, place: int, died: Died | None = None) -> None:
        """Fit a group alone, and record its failure if that kills the worker.

        died: how it killed a worker before; without it, it has to kill two.
        """
        for _ in range(2 if died is None else 1):
            _, died = self._try(block, [[place]])
            if died is None:
                return
        key, fits, optional = block.key(place), self.fits, set(_COMPARISONS)
        while died is not None and died.doing in optional:
            optional.remove(died.doing)
            fits = self._without_comparison(fits, key, died)
            _, died = self._try(block, [[place]], fits)
        if died is None:
            return
        words = died.text
        error = TimedOut(key, words) if died.timed_out else FitFailed(key, died.error_class, words)
        self._give_up(block, error, place, died.ms)
        self._given_up += 1

    def _without_comparison(self, fits: Fits, group_key: str, died: Died) -> Fits:
        """The settings without the comparison that killed the worker.

        After MAX_COMPARISON_DEATHS groups the rest of the task goes without it too, except for champions: each is a
        different model.
        """
        if died.doing == current_group.SHADOW:
            self._spoiled += 1
            if self._spoiled == SPOILED:
                self._without_shadow(died.text)
            return fits.spoiled(group_key, died)
        if died.doing == current_group.REFIT:
            self._refits_died += 1
            if self._refits_died == SPOILED:
                self.close()
                self.fits = self.fits.without_earlier(died, "not tried: elsewhere ")
            return fits.without_earlier(died)
        return fits.without_champions(died)

    def _give_up(self, block: FitBlock, error: FitFailed, place: int, ms: float = 0.0) -> None:
        rows, _ = block.part([place])
        block.fitted.append(([place], failed(rows, error, self.fits.recipe, self.fits.clock, ms)))

    def _untried(self, group_key: str) -> FitFailed:
        text = (
            f"not tried, or only once: the first {self._given_up} groups ended their processes or did not end in time, "
            "and of others here and there none was fitted. Mend the estimator, or raise recipe.time_limit"
        )
        return FitFailed(group_key, "NotTried", text)


def _half(size: int) -> int:
    return max(1, min(size, MOST_AT_RISK) // 2)


def _told(line: Line, block: FitBlock, piece: Piece) -> current_group.Listener:
    """A listener that reports each group to the parent by its position in the block."""
    places = {block.key(place): place for place in piece}
    return lambda key, doing: line.turn(None if key is None else places[key], doing)


def _suspect(piece: Piece, died: Died) -> int | None:
    """The group that killed the worker; None if unknown.

    When memory was short, the last status may be of an earlier piece.
    """
    if len(piece) == 1:
        return piece[0]
    return died.at if died.at in piece else None


def _pieces(rest: Piece, size: int) -> list[Piece]:
    """Cut into pieces of `size` groups, then of twice as many each time up to MAX_PIECE_AFTER_DEATH."""
    pieces, at = [], 0
    while at < len(rest):
        pieces.append(rest[at : at + size])
        at += size
        size = max(size, min(2 * size, MOST_AT_RISK))
    return pieces


def _warm(recipe: Recipe) -> None:
    """Import what each worker needs, so that a fork has it. A user's function is only called in a worker."""
    import_module("spinney.core.models.arrays.arrays_codec")
    names = [recipe.estimator, *candidates(recipe.arguments)]
    theirs = [name for name in names if ":" in name]
    for name in theirs:
        resolve(name, {})
    if not theirs:
        kernel_for(recipe.estimator, recipe.task, recipe.arguments)
    beside = [each for _, each in recipe.earlier] + ([recipe.shadow.recipe] if recipe.shadow is not None else [])
    for each in beside:
        with suppress(ConfigError, ContractError):  # an error in one of these is recorded by group
            _warm(each)
