"""Find out before a batch which comparisons are possible after a change of the recipe.

If a challenger's recipe differs from its champion's, both are compared on rows that neither was fitted on. Either the
champion's recipe is fitted again without these rows, or the rows are newer than the champion. Nothing can be compared
if the earlier recipe cannot be fitted again and either no row is newer or the champion used a column that is no longer
a feature. Then the gate promotes the challenger as unproven. If that is too large a share of the fleet, the batch is
refused.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from batch.comparison_evidence import Evidence, count_evidence
from batch.group_selection import ALL, NAMED, BatchView, Scope
from spinney.core.config import Config
from spinney.core.errors import ContractError
from spinney.core.keys import is_parent
from spinney.core.models.signing import Signer
from spinney.core.recipes.display_name import IMPORTED_PREFIX, SHORT_ID_CHARACTERS
from spinney.core.recipes.recipe import Recipe
from spinney.core.recipes.recipe_change import describe_change, missing_features, refit_obstacle
from spinney.storage.layout import FleetStore
from spinney.tables import recipe_store
from spinney.tables.readers import current_champions
from spinney.tables.snapshot import ShardRange, filter_of_groups

FEW_GROUPS = 20
MAX_UNPROVEN_SHARE, MAX_SHARE_OF_FEW = 0.1, 0.5
"""A batch is refused if it would promote more than MAX_UNPROVEN_SHARE of the fleet as unproven; if these are at most
FEW_GROUPS groups, only if they are more than MAX_SHARE_OF_FEW of the fleet.
"""


@dataclass(frozen=True)
class RecipeChange:
    """Groups and parents whose champions were fitted by the same earlier recipe.

    unproven: number of those groups for which nothing can be compared.
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
    """The changes of the recipe that a batch makes.

    by_recipe: the earlier recipe with most groups first. fleet: number of groups in the fleet, without parents, or a
    smaller number that is enough to decide; 0 if it does not matter.
    """

    by_recipe: tuple[RecipeChange, ...]
    fleet: int

    @property
    def unproven(self) -> int:
        """Number of groups for which nothing can be compared."""
        return sum(change.unproven for change in self.by_recipe)

    @property
    def lines(self) -> tuple[str, ...]:
        """One text for each earlier recipe."""
        return tuple(map(str, self.by_recipe))

    @property
    def refusal(self) -> str | None:
        """Why the batch does not run without `unproven`; None if it does."""
        share = MAX_SHARE_OF_FEW if self.unproven <= FEW_GROUPS else MAX_UNPROVEN_SHARE
        if not self.fleet or self.unproven <= share * self.fleet:
            return None
        return (
            f"{self.unproven:,} of {self.fleet:,} groups would get a model of another recipe with nothing to compare "
            f"it by: expected at most {share:.0%} of the fleet. Put the recipe back, wait for newer rows (they do not "
            "help where a feature was dropped), or add --unproven to promote them all without evidence"
        )

    def require_evidence(self) -> None:
        """Raise ContractError if there is a `refusal`; nothing was planned then."""
        if self.refusal:
            raise ContractError(f"retrain: {self.refusal}. " + "; ".join(self.lines))


def recipe_changes(config: Config, signer: Signer, plan: pa.Table, scope: Scope, view: BatchView) -> RecipeChanges:
    """Return which groups of a plan have a champion of another recipe than the current one, counted by that recipe.

    Pinned groups and groups without a champion are not counted. plan: the verdicts of a batch. scope: the groups that
    the batch was asked for. view: the versions of the tables that it reads.
    """
    pinned = pc.match_substring(plan.column("numbers"), '"pinned":true')
    with_champion = plan.filter(pc.and_(pc.is_valid(plan.column("model_id")), pc.invert(pc.fill_null(pinned, False))))
    if not with_champion.num_rows:
        return RecipeChanges((), 0)
    store = FleetStore.of(config)
    current = recipe_store.with_renamed_features(store, Recipe.of(config))
    wanted = filter_of_groups(with_champion.column("group_key").to_pylist(), config.fleet.shards)
    known = recipe_store.recipes_of_models(store, with_champion.column("model_id").combine_chunks(), wanted)
    both = with_champion.select(["shard", "group_key", "model_id"])
    for name in ("recipe_id", "trained_through"):
        both = both.append_column(name, known.column(name))
    changed = both.filter(pc.fill_null(pc.not_equal(both.column("recipe_id"), current.recipe_id), True))
    counts = Counter(changed.column("recipe_id").to_pylist())
    earlier = recipe_store.load_recipes(store, signer)

    def newer(name: str | None) -> Evidence:
        ids = changed.column("recipe_id")
        of_recipe = changed.filter(pc.is_null(ids) if name is None else pc.equal(ids, name))
        return count_evidence(config, signer, view, of_recipe, current)

    describer = _ChangeDescriber(current, newer, config.gate.evidence)
    by_recipe = [describer.describe(name, count, earlier.get(name or "")) for name, count in counts.most_common()]
    changes = RecipeChanges(tuple(by_recipe), 0)
    # A person who names a few groups knows which ones change.
    if not changes.unproven or (scope.which == NAMED and changes.unproven <= FEW_GROUPS):
        return changes
    # Few groups of a large fleet are never too many: its other champions are not read.
    enough = changes.unproven / MAX_SHARE_OF_FEW if changes.unproven <= FEW_GROUPS else math.inf
    return replace(changes, fleet=_count_fleet(store, plan, scope, view, enough))


@dataclass(frozen=True)
class _ChangeDescriber:
    """Describes the changes of the recipe.

    newer: takes the id of an earlier recipe, and returns the evidence for its groups. required_rows: `gate.evidence`.
    """

    current: Recipe
    newer: Callable[[str | None], Evidence]
    required_rows: int

    def describe(self, name: str | None, count: int, earlier: Recipe | None) -> RecipeChange:
        if earlier is not None:
            what, why = (
                f"recipe changed ({describe_change(earlier, self.current)})",
                refit_obstacle(earlier, self.current),
            )
            if why is None:
                return RecipeChange(count, what, "each compared on its newest rows with a refit of the old recipe")
            what += f", and the old one cannot be fitted again: {why}"
        elif name is not None and name.startswith(IMPORTED_PREFIX):
            what = f"imported models ({name.removeprefix(IMPORTED_PREFIX)})"
        else:
            short = (name or "unknown")[:SHORT_ID_CHARACTERS]
            what = f"recipe changed, and the old one ({short}) is not stored with a signature that holds"
        found = self.newer(name)
        has_lost = earlier is not None and missing_features(earlier, self.current)  # `what` has said it
        return RecipeChange(
            count, what, self._words(replace(found, why=None) if has_lost else found), found.without_rows
        )

    def _words(self, found: Evidence) -> str:
        thin = (
            f" ({found.with_few_rows:,} of them on fewer than {self.required_rows}, gate.evidence)"
            if found.with_few_rows
            else ""
        )
        why = f", for their models cannot be asked: {found.why}" if found.why else ""
        compared = f"{found.with_enough_rows + found.with_few_rows:,} compared on rows newer than their model{thin}"
        return f"{compared}, {found.without_rows:,} with nothing{why}"


def _count_fleet(store: FleetStore, plan: pa.Table, scope: Scope, view: BatchView, enough: float) -> int:
    """Return the number of groups, or the first number from `enough` on that is found."""
    if scope.which == ALL:
        return _count_groups(plan)
    last = store.fleet.shards - 1
    ranges = [ShardRange(0, last)] if math.isinf(enough) else [ShardRange(shard, shard) for shard in range(last + 1)]
    groups = 0
    for shards in ranges:
        groups += _count_groups(current_champions.read_champions(store, view.pins, shards))
        if groups >= enough:
            break
    return groups


def _count_groups(rows: pa.Table) -> int:
    return sum(not is_parent(key) for key in rows.column("group_key").to_pylist())
