"""Fitted models by model_id: from the promotion that carries them, or fetched once from `models`."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import pyarrow.dataset as ds

from schemas import tables
from spinney.core import codec
from spinney.core.champion import Promotion
from spinney.core.config import Config
from spinney.core.errors import Corrupt, StoreError
from spinney.core.model import Model
from spinney.core.signing import Claim, Signer
from spinney.stores import delta, layout

CARRIED_BYTES = 4096
"""A payload up to this size travels with its promotion; a larger one is fetched by model_id."""

CACHE_BYTES = 256 << 20
"""Payload bytes of the models that a worker keeps loaded."""


@dataclass(frozen=True)
class Signed:
    """A payload as stored."""

    codec: str
    payload: bytes
    signature: bytes


Fetch = Callable[[Mapping[str, str]], Mapping[str, list[Signed]]]
"""Payloads by model_id, of models that no promotion carries: from model_id -> the group or parent it is of."""


class ModelCache:
    """Loaded models, the least recently used ones dropped. A model_id never changes its bytes, so nothing gets old.

    Kept by owner and model_id: a promotion that names another group's model must not find it here, verified for that
    group.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._models: OrderedDict[tuple[str, str], tuple[Model, int]] = OrderedDict()
        self._bytes = 0

    def load(
        self,
        wanted: Mapping[str, tuple[str, Promotion]],
        config: Config,
        signer: Signer,
        fetched_by: Fetch | None = None,
    ) -> tuple[dict[str, Model], set[str]]:
        """Models by model_id, and the ids of those whose signature or bytes do not hold.

        wanted: model_id -> (the group or parent it is of, its promotion). fetched_by: from the table `models`, if not
        given; then it raises StoreError when a model is nowhere.
        """
        loaded: dict[str, Model] = {}
        refused: set[str] = set()
        missing = {name: ask for name, ask in wanted.items() if (ask[0], name) not in self._models}
        elsewhere = {name: owner for name, (owner, row) in missing.items() if row.payload is None}
        fetched = fetched_by(elsewhere) if fetched_by else fetch(config, elsewhere)
        for name, (owner, row) in wanted.items():
            if name in missing:
                stored = fetched.get(name) or [Signed(row.codec or "", row.payload or b"", row.signature or b"")]
                opened = _opened(owner, name, stored, signer)
                if opened is None:
                    refused.add(name)
                    continue
                self._models[owner, name] = opened
                self._bytes += opened[1]
            self._models.move_to_end((owner, name))
            loaded[name] = self._models[owner, name][0]
        self._shrink()
        return loaded, refused

    def _shrink(self) -> None:
        while self._bytes > self._limit and len(self._models) > 1:
            _, (_, size) = self._models.popitem(last=False)
            self._bytes -= size


def _opened(owner: str, model_id: str, stored: Iterable[Signed], signer: Signer) -> tuple[Model, int] | None:
    """The first whose signature holds for this group, and its bytes; nothing of a payload is parsed before that."""
    for each in stored:
        with suppress(Corrupt):
            claim = Claim(owner, model_id, each.codec)
            return codec.open_signed(signer, claim, each.payload, each.signature), len(each.payload)
    return None


@lru_cache(maxsize=1)
def cache() -> ModelCache:
    """This process's cache. A Spark worker outlives its tasks and queries: entries are named by model_id."""
    return ModelCache()


def fetch(config: Config, owners: Mapping[str, str]) -> dict[str, list[Signed]]:
    """As `stored`. Raises StoreError when one is nowhere: it was promoted and never stored, or was forgotten."""
    found = stored(config, owners)
    _refuse_missing(owners, found)
    return found


def stored(config: Config, owners: Mapping[str, str]) -> dict[str, list[Signed]]:
    """Payloads by model_id from all directories of `models`: several where the same work was done under several keys.

    owners: model_id -> group_key, which the files are sorted by. What is nowhere is left out.
    """
    found: dict[str, list[Signed]] = defaultdict(list)
    for directory in layout.directories(config, tables.MODELS) if owners else ():
        table = delta.opened(config, directory)
        if table is None:
            continue
        where = ds.field("group_key").isin(list(owners.values())) & ds.field("model_id").isin(list(owners))
        rows = delta.dataset(table).to_table(["model_id", "codec", "payload", "signature"], filter=where)
        for row in rows.to_pylist():
            found[row["model_id"]].append(Signed(row["codec"], row["payload"], row["signature"]))
    return dict(found)


def _refuse_missing(owners: Mapping[str, str], found: Iterable[str]) -> None:
    missing = sorted(set(owners) - set(found))
    if missing:
        raise StoreError(
            f"models: model {missing[0]} of group {owners[missing[0]]} is promoted but stored nowhere "
            f"({len(missing)} such); restore the table, or fit the group again: spinney retrain --group"
        )
