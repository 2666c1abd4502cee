"""What a batch will compare where the recipe was changed, said before it runs; a fleet is not changed without evidence.

A challenger of another recipe than its champion's is compared on rows that neither was fitted on: with the champion's
own recipe, fitted again without them, or on rows newer than the champion. Where the earlier recipe cannot be fitted
again, and no row is newer or the champion used a column that is no feature any more, nothing can be compared, and the
gate promotes it as unproven.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from batch.choosing import ALL, Scope, View
from batch.newer_rows import Evidence, evidence
from spinney.core.config import Config
from spinney.core.errors import ContractError
from spinney.core.keys import is_parent
from spinney.core.models.signing import Signer
from spinney.core.recipes.display_name import IMPORTED_PREFIX, SHORT_ID_CHARACTERS
from spinney.core.recipes.recipe import Recipe
from spinney.core.recipes.recipe_change import describe_change, missing_features, refit_obstacle
from spinney.storage.layout import FleetStore
from spinney.tables import current_champions, recipe_store
from spinney.tables.snapshot import ShardRange, filter_of_groups

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
    """by_recipe: most groups first. fleet: groups that the fleet has, parents not counted; 0 where it makes no
    difference.
    """

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
            f"it by: expected at most {SHARE:.0%} of the fleet, or {FEW_GROUPS} groups. Put the recipe back, wait for "
            "newer rows (they do not help where a feature was dropped), or add --unproven to promote them all without "
            "evidence"
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
    store = FleetStore.of(config)
    today = recipe_store.with_renamed_features(store, Recipe.of(config))
    wanted = filter_of_groups(mine.column("group_key").to_pylist(), config.fleet.shards)
    known = recipe_store.recipes_of_models(store, mine.column("model_id").combine_chunks(), wanted)
    both = mine.select(["shard", "group_key", "model_id"]).append_column("recipe_id", known.column("recipe_id"))
    both = both.append_column("trained_through", known.column("trained_through"))
    changed = both.filter(pc.fill_null(pc.not_equal(both.column("recipe_id"), today.recipe_id), True))
    counts = Counter(changed.column("recipe_id").to_pylist())
    earlier = recipe_store.load_recipes(store, signer)

    def newer(name: str | None) -> Evidence:
        ids = changed.column("recipe_id")
        of_recipe = changed.filter(pc.is_null(ids) if name is None else pc.equal(ids, name))
        return evidence(config, signer, view, of_recipe, today)

    asked = _Asked(today, newer, config.gate.evidence)
    by_recipe = [asked.changed(name, count, earlier.get(name or "")) for name, count in counts.most_common()]
    changes = RecipeChanges(tuple(by_recipe), 0)
    # Few are never too many: to count the fleet, all its champions would be read.
    return replace(changes, fleet=_fleet(store, plan, scope, view)) if changes.unproven > FEW_GROUPS else changes


@dataclass(frozen=True)
class _Asked:
    """newer: what there is to compare the groups of an earlier recipe on, by its id. needed: `gate.evidence`."""

    today: Recipe
    newer: Callable[[str | None], Evidence]
    needed: int

    def changed(self, name: str | None, count: int, earlier: Recipe | None) -> Changed:
        if earlier is not None:
            what, why = f"recipe changed ({describe_change(earlier, self.today)})", refit_obstacle(earlier, self.today)
            if why is None:
                return Changed(count, what, "each compared on its newest rows with a refit of the old recipe")
            what += f", and the old one cannot be fitted again: {why}"
        elif name is not None and name.startswith(IMPORTED_PREFIX):
            what = f"imported models ({name.removeprefix(IMPORTED_PREFIX)})"
        else:
            short = (name or "unknown")[:SHORT_ID_CHARACTERS]
            what = f"recipe changed, and the old one ({short}) is not stored with a signature that holds"
        found = self.newer(name)
        has_lost = earlier is not None and missing_features(earlier, self.today)  # `what` has said it
        return Changed(count, what, self._words(replace(found, why=None) if has_lost else found), found.nothing)

    def _words(self, found: Evidence) -> str:
        thin = f" ({found.thin:,} of them on fewer than {self.needed}, gate.evidence)" if found.thin else ""
        why = f", for their models cannot be asked: {found.why}" if found.why else ""
        compared = f"{found.enough + found.thin:,} compared on rows newer than their model{thin}"
        return f"{compared}, {found.nothing:,} with nothing{why}"


def _fleet(store: FleetStore, plan: pa.Table, scope: Scope, view: View) -> int:
    def keys() -> Iterator[str]:
        if scope.which == ALL:
            yield from plan.column("group_key").to_pylist()
        else:
            every = ShardRange(0, store.fleet.shards - 1)
            yield from (current_champions.read_champions(store, view.pins, every).column("group_key").to_pylist())

    return sum(not is_parent(key) for key in keys())
