"""Fitted models by model_id: from the promotion that carries them, or fetched once from `models`."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from schemas import tables
from spinney.core.champions.promotion import Promotion
from spinney.core.errors import Corrupt, StoreError
from spinney.core.models import codec
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim, Signer
from spinney.serving.frequency_sketch import Frequencies
from spinney.storage.layout import FleetStore
from spinney.tables import delta, lookup
from spinney.tables.lookup import RowFilter

CARRIED_BYTES = 4096
"""A payload up to this size travels with its promotion; a larger one is fetched by model_id."""

CACHE_BYTES = 256 << 20
"""Payload bytes of the models that a worker keeps loaded."""


_Name = tuple[str, str]
"""The group or parent that a model is of, and its model_id."""


@dataclass(frozen=True)
class SignedPayload:
    """A payload as stored."""

    codec: str
    payload: bytes
    signature: bytes


_STORED = ("model_id", "codec", "payload", "signature")

Fetch = Callable[[Mapping[str, str]], Mapping[str, list[SignedPayload]]]
"""Payloads by model_id, of models that no promotion carries: from model_id -> the group or parent it is of."""


class ModelCache:
    """Loaded models, bounded by the bytes of their payloads. A model_id never changes its bytes, so nothing gets old.

    Kept by owner and model_id: a promotion that names another group's model must not find it here, verified for that
    group.

    Once full it takes in a model only in place of least recently used ones that were asked for less often (TinyLFU:
    Einziger et al. 2017). So a pass over more models than it holds keeps those that it has, and finds them at the next
    pass; by recency alone each would be dropped just before it is asked for again.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._models: OrderedDict[_Name, tuple[Model, int]] = OrderedDict()
        self._bytes = 0
        self._asked = Frequencies()

    def load(
        self,
        wanted: Mapping[str, tuple[str, Promotion]],
        store: FleetStore,
        signer: Signer,
        fetched_by: Fetch | None = None,
    ) -> tuple[dict[str, Model], set[str]]:
        """Return the models by model_id, and the ids of those that are refused: signature invalid or bytes corrupt.

        wanted: model_id -> (its group or parent, its promotion). fetched_by: reads payloads that no promotion carries;
        by default from the table `models`, which raises StoreError for a model that is not there.
        """
        loaded: dict[str, Model] = {}
        refused: set[str] = set()
        missing = {name: ask for name, ask in wanted.items() if (ask[0], name) not in self._models}
        elsewhere = {name: owner for name, (owner, row) in missing.items() if row.payload is None}
        fetched = fetched_by(elsewhere) if fetched_by else fetch_models(store, elsewhere)
        filling = self._bytes > self._limit // 2  # counting takes 3 us a model, and before that nothing has to go
        for name, (owner, _) in wanted.items():
            if filling:
                self._asked.count((owner, name))
            if name not in missing:
                self._models.move_to_end((owner, name))
                loaded[name] = self._models[owner, name][0]
        for name, (owner, row) in missing.items():
            stored = fetched.get(name) or [SignedPayload(row.codec or "", row.payload or b"", row.signature or b"")]
            opened = _open_first_valid(owner, name, stored, signer)
            if opened is None:
                refused.add(name)
                continue
            loaded[name] = opened[0]
            self._keep((owner, name), *opened)
        return loaded, refused

    def _keep(self, name: _Name, model: Model, size: int) -> None:
        """Take it in, unless it is too large, or a model that would have to go for it was asked for as often."""
        free, mine, leaving = self._limit - self._bytes, self._asked[name], []
        for other, (_, other_size) in self._models.items():
            if free >= size:
                break
            if self._asked[other] >= mine:
                return
            leaving.append(other)
            free += other_size
        if free < size:
            return
        for other in leaving:
            self._bytes -= self._models.pop(other)[1]
        self._models[name] = (model, size)
        self._bytes += size


def _open_first_valid(
    owner: str, model_id: str, stored: Iterable[SignedPayload], signer: Signer
) -> tuple[Model, int] | None:
    """Return the first model with a valid signature for this group, and its size in bytes; None without one.

    No payload is parsed before its signature was verified.
    """
    for each in stored:
        with suppress(Corrupt):
            claim = Claim(owner, model_id, each.codec)
            return codec.load_signed(signer, claim, each.payload, each.signature), len(each.payload)
    return None


@lru_cache(maxsize=1)
def cache() -> ModelCache:
    """Return this process's cache. A Spark worker outlives tasks and queries, so entries are named by model_id."""
    return ModelCache()


def fetch_models(store: FleetStore, owners: Mapping[str, str]) -> dict[str, list[SignedPayload]]:
    """As `stored`. Raises StoreError when one is nowhere: it was promoted and never stored, or was forgotten."""
    found = read_stored_models(store, owners)
    _refuse_missing(owners, found)
    return found


def read_stored_models(store: FleetStore, owners: Mapping[str, str]) -> dict[str, list[SignedPayload]]:
    """Payloads by model_id from all directories of `models`: several where the same work was done under several keys.

    owners: model_id -> group_key. Models that are not stored are left out.
    """
    found: dict[str, list[SignedPayload]] = defaultdict(list)
    for directory in store.directories(tables.MODELS) if owners else ():
        table = delta.open_table(directory)
        if table is None:
            continue
        for batch in lookup.read_directory(store, table, directory, _STORED, RowFilter.of_models(owners)):
            for row in batch.to_pylist():
                found[row["model_id"]].append(SignedPayload(row["codec"], row["payload"], row["signature"]))
    return dict(found)


def _refuse_missing(owners: Mapping[str, str], found: Iterable[str]) -> None:
    missing = sorted(set(owners) - set(found))
    if missing:
        raise StoreError(
            f"models: model {missing[0]} of group {owners[missing[0]]} is promoted but stored nowhere "
            f"({len(missing)} such); restore the table, or fit the group again: spinney retrain --group"
        )
