"""What a batch will compare where the recipe was changed, said before it runs; a fleet is not changed without evidence.

A challenger of another recipe than its champion's is compared on rows that neither was fitted on: with the champion's
own recipe, fitted again without them, or on rows newer than the champion. Where the earlier recipe cannot be fitted
again and no row is newer, nothing can be compared, and the gate promotes it as unproven.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch.choosing import ALL, Scope, View
from spinney.core.config import Config
from spinney.core.errors import ContractError
from spinney.core.keys import is_parent
from spinney.core.recipe import Recipe
from spinney.core.recipe_change import difference, obstacle
from spinney.core.recipe_name import IMPORTED, SHORT
from spinney.core.signing import Signer
from spinney.stores import champions, recipes, training
from spinney.stores.snapshot import Shards
from spinney.stores.training import TrainingTables

FEW_GROUPS = 20
SHARE = 0.1
"""A batch that changes more than FEW_GROUPS groups and more than this share of the fleet unproven has to be told so."""


@dataclass(frozen=True)
class Changed:
    """Groups and parents whose champion was fitted by one and the same earlier recipe.

    unproven: of them, groups of which nothing can be compared.
    """

    groups: int
    what: str
    how: str
    unproven: int = 0

    def __str__(self) -> str:
        count = "1 group" if self.groups == 1 else f"{self.groups:,} groups"
        return f"{count}: {self.what}: {self.how}"


@dataclass(frozen=True)
class RecipeChanges:
    """by_recipe: most groups first. fleet: groups that the fleet has, parents not counted."""

    by_recipe: tuple[Changed, ...]
    fleet: int

    @property
    def unproven(self) -> int:
        return sum(each.unproven for each in self.by_recipe)

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(map(str, self.by_recipe))

    @property
    def refusal(self) -> str | None:
        """Why the batch does not run unless it is told that evidence is not needed; None where it does."""
        if self.unproven <= max(FEW_GROUPS, SHARE * self.fleet):
            return None
        return (
            f"{self.unproven:,} of {self.fleet:,} groups would get a model of another recipe with nothing to compare "
            f"it by: expected at most {SHARE:.0%} of the fleet, or {FEW_GROUPS} groups. Wait for newer rows, put the "
            "recipe back, or add --unproven to promote them all without evidence"
        )

    def require_evidence(self) -> None:
        """Raises ContractError where `refusal` has a reason; nothing was planned then."""
        if self.refusal:
            raise ContractError(f"retrain: {self.refusal}. " + "; ".join(self.lines))


def recipe_changes(config: Config, signer: Signer, plan: pa.Table, scope: Scope, view: View) -> RecipeChanges:
    """plan: the verdicts of a batch. Pinned groups and those without a champion are not concerned."""
    pinned = pc.match_substring(plan.column("numbers"), '"pinned":true')
    mine = plan.filter(pc.and_(pc.is_valid(plan.column("model_id")), pc.invert(pc.fill_null(pinned, False))))
    if not mine.num_rows:
        return RecipeChanges((), 0)
    today = recipes.with_renamed(config, Recipe.of(config))
    known = recipes.of_models(config, mine.column("model_id").combine_chunks())
    both = mine.select(["shard", "group_key"]).append_column("recipe_id", known.column("recipe_id"))
    both = both.append_column("trained_through", known.column("trained_through"))
    changed = both.filter(pc.fill_null(pc.not_equal(both.column("recipe_id"), today.recipe_id), True))
    counts = Counter(changed.column("recipe_id").to_pylist())
    earlier = recipes.stored(config, signer)

    def unseen(name: str | None) -> tuple[int, int]:
        ids = changed.column("recipe_id")
        return _unseen(config, view, changed.filter(pc.is_null(ids) if name is None else pc.equal(ids, name)))

    by_recipe = [
        _of_recipe(name, count, earlier.get(name or ""), today, unseen) for name, count in counts.most_common()
    ]
    return RecipeChanges(tuple(by_recipe), _fleet(config, plan, scope, view) if by_recipe else 0)


def _of_recipe(
    name: str | None,
    count: int,
    earlier: Recipe | None,
    today: Recipe,
    unseen: Callable[[str | None], tuple[int, int]],
) -> Changed:
    """unseen: how many of its groups have rows newer than their champion, and how many have none."""
    if earlier is not None:
        what, why = f"recipe changed ({difference(earlier, today)})", obstacle(earlier, today)
        if why is None:
            return Changed(count, what, "each compared on its newest rows with a refit of the old recipe")
        what += f", and the old one cannot be fitted again: {why}"
    elif name is not None and name.startswith(IMPORTED):
        what = f"imported models ({name.removeprefix(IMPORTED)})"
    else:
        short = (name or "unknown")[:SHORT]
        what = f"recipe changed, and the old one ({short}) is not stored with a signature that holds"
    some, none = unseen(name)
    return Changed(count, what, f"{some:,} compared on rows newer than their model, {none:,} with nothing", none)


def _unseen(config: Config, view: View, mine: pa.Table) -> tuple[int, int]:
    """Of these groups, parents left out: how many have mature events newer than their champion, and how many none."""
    groups = mine.filter(pa.array([not is_parent(key) for key in mine.column("group_key").to_pylist()], pa.bool_()))
    if not groups.num_rows:
        return 0, 0
    source = TrainingTables.of(config, view.pins, view.clock)
    newest = training.newest_events(source, Shards(pc.min(groups["shard"]).as_py(), pc.max(groups["shard"]).as_py()))
    place = pc.index_in(groups.column("group_key"), value_set=newest.column("group_key").combine_chunks())
    # Without its time a champion may have seen every row.
    is_newer = pc.fill_null(pc.greater(newest.column("newest").take(place), groups.column("trained_through")), False)
    some = int(np.count_nonzero(is_newer.to_numpy()))
    return some, groups.num_rows - some


def _fleet(config: Config, plan: pa.Table, scope: Scope, view: View) -> int:
    def keys() -> Iterator[str]:
        if scope.which == ALL:
            yield from plan.column("group_key").to_pylist()
        else:
            every = Shards(0, config.fleet.shards - 1)
            yield from champions.current(config, view.pins, every).column("group_key").to_pylist()

    return sum(not is_parent(key) for key in keys())
