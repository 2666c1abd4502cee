"""Fits of many groups, where what one group's estimator does to its process costs no other group its model.

One child is kept, and fits block after block, each in one piece. When it dies or hangs, the group whose turn it was is
tried again alone, in a child of its own, and the rest goes on in smaller pieces; where it was nobody's turn, the piece
is halved. A group is marked failed only after it has ended two children, the second of them while it was alone.

The worst is bounded. Each bad group ends two children (two time limits if it hangs), and some 2 log2(MOST_AT_RISK) more
where it was nobody's turn; each death undoes the work on one piece. An estimator that ends every process is given up
after `HOPELESS` groups and as many more that are spread over what is left, and the rest of the task fails untried, but
for one group of each block: let that be fitted, and all are tried again. Memory that still lacks alone in `REPEATED`
groups, one after the other, is believed where it lacks beside others. A shadow that ends its process, or lacks memory
alone, costs its group nothing but its own text, and is given up after `SPOILED` groups, or at once where it ended the
process in nobody's turn. A champion or its recipe that ends the process costs its group the comparison and not its new
model; a recipe that does so in `SPOILED` groups of a task is not fitted again in the others.
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
"""Groups of one piece, once a child has died."""

MOST_HANDED_BYTES = 64 << 20
"""A larger block, of many large champions, is not copied: its child is forked from the process that holds it."""

HOPELESS = 10
"""Once so many groups have ended processes and none was fitted, as many are tried elsewhere before it is given up."""

REPEATED = 10
"""Once memory lacked alone as it did beside others in so many groups running, one of each piece is tried alone."""

SPOILED = 3
"""Once the shadow has ended its process, or lacked memory, alone in so many groups, it is not tried in others."""

MAKING = "while recipe.estimator was called"
_COMPARISONS = (current_group.REFIT, current_group.READ_CHAMPION, current_group.ASK_CHAMPION, current_group.SHADOW)
"""What a group's own model does not need."""
_TRIED = {ModelStatus.FITTED.value, ModelStatus.FAILED.value}


@dataclass(frozen=True)
class Fits:
    """How groups are fitted: as `fit_groups` takes it, and within which limits."""

    recipe: Recipe
    clock: datetime
    signer: Signer
    limits: Limits = field(default_factory=Limits)

    def work(self, line: Line, block: FitBlock, pieces: list[Piece]) -> None:
        """What the child does."""
        line.turn(None, MAKING)
        kernel_for(self.recipe.estimator, self.recipe.task, self.recipe.arguments)
        for piece in pieces:
            line.turn(None, current_group.FIT)
            with current_group.heard_by(_told(line, block, piece)):
                line.send(fit_groups(*block.part(piece), self.recipe, self.clock, self.signer))

    def work_on(self, line: Line, tables: Iterator[pa.Table], parted: Parted) -> None:
        """What the child does that is kept."""
        line.turn(None, MAKING)
        kernel_for(self.recipe.estimator, self.recipe.task, self.recipe.arguments)
        for table in tables:
            block = FitBlock(table, parted)
            with current_group.heard_by(_told(line, block, list(range(block.count)))):
                line.send(fit_groups(block.rows, block.asks, self.recipe, self.clock, self.signer))

    def spoiled(self, group_key: str, died: Died) -> Fits:
        """The same, where the shadow is not tried in this group, which it has ended."""
        return self._with_shadow(spoiled=((group_key, f"{died.error_class}: {died.text}"),))

    def without_shadow(self, why: str) -> Fits:
        """The same, where the shadow is not tried any more."""
        return self._with_shadow(given_up=f"not tried: elsewhere {why}")

    def without_earlier(self, died: Died, where: str = "") -> Fits:
        """The same, where no champion's recipe is fitted again: one that ends its process costs no group its model."""
        return replace(self, recipe=replace(self.recipe, refit_error=f"{where}{died.error_class}: {died.text}"))

    def without_champions(self, died: Died) -> Fits:
        """The same, where no champion is asked: one that ends whoever reads or asks it cannot answer."""
        return replace(self, recipe=replace(self.recipe, champion_error=f"{died.error_class}: {died.text}"))

    def _with_shadow(self, **changed: Any) -> Fits:
        assert self.recipe.shadow is not None
        return replace(self, recipe=replace(self.recipe, shadow=replace(self.recipe.shadow, **changed)))


@dataclass
class Supervised:
    """Fits one block after the other. One a task: what it has seen die counts for all of its blocks."""

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
        """What `fit_groups` gives for a block, piece by piece, each with the places of its groups among the asks.

        Raises what `fit_groups` raises, and ContractError when `recipe.estimator` itself ends the process.
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
                continue  # all is done, or it had ended before it was given anything
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
        """Whether one of some groups, spread over the rest, is fitted alone. Who ends no process leaves the rest."""
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
        """Try one alone of those that lacked memory in a piece of `size`. Gives who is tried again, how many at once.

        Where it has always repeated and does so again, nobody is: what was seen beside others is believed.
        """
        short, believes = block.taken_short(), self._repeated >= REPEATED
        suspect = list(short)[-1 if believes else 0]  # who comes last has the most neighbours
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
        """End the child that is kept."""
        if self._steady is not None:
            self._steady.close()
        self._steady = None

    def _try(
        self, block: FitBlock, pieces: list[Piece], fits: Fits | None = None, *, at_once: bool = False
    ) -> tuple[int, Died | None]:
        """How many of the pieces one child has fitted, and what ended it, if it was not the end of its work.

        at_once: by the child that is kept, which is given the whole block.
        """
        fits = fits or self.fits
        done, died = self._try_once(block, pieces, fits, at_once=at_once)
        if died is not None and died.doing == MAKING:  # once may be the system's doing, as memory was short
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
                    if block.short:  # the child's memory is taken: it ends
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
        """Try a group by itself. died: how it has ended a child before."""
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
        """The same fits without what ended the process; after SPOILED groups the rest of the task goes without it too.

        Not so for champions: each is a model of its own.
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
    """Hears whose turn it is, and says their places."""
    places = {block.key(place): place for place in piece}
    return lambda key, doing: line.turn(None if key is None else places[key], doing)


def _suspect(piece: Piece, died: Died) -> int | None:
    """Whose turn it was. Where memory was short, what a child said last may be of a piece before."""
    if len(piece) == 1:
        return piece[0]
    return died.at if died.at in piece else None


def _pieces(rest: Piece, size: int) -> list[Piece]:
    """Cut into pieces of `size` groups, then of twice as many each time up to MOST_AT_RISK."""
    pieces, at = [], 0
    while at < len(rest):
        pieces.append(rest[at : at + size])
        at += size
        size = max(size, min(2 * size, MOST_AT_RISK))
    return pieces


def _warm(recipe: Recipe) -> None:
    """Import here what each child would import anew. A user's function is called only in a child."""
    import_module("spinney.core.models.arrays.arrays_codec")
    names = [recipe.estimator, *candidates(recipe.arguments)]
    theirs = [name for name in names if ":" in name]
    for name in theirs:
        resolve(name, {})
    if not theirs:
        kernel_for(recipe.estimator, recipe.task, recipe.arguments)
    beside = [each for _, each in recipe.earlier] + ([recipe.shadow.recipe] if recipe.shadow is not None else [])
    for each in beside:
        with suppress(ConfigError, ContractError):  # their trouble is their groups' alone
            _warm(each)
