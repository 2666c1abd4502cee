"""A cache of fitted models by model_id, loaded from the payload of a promotion or once from `models`."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock

from schemas import tables
from spinney.core.champions.promotion import Promotion
from spinney.core.errors import Corrupt, StoreError
from spinney.core.models import codec
from spinney.core.models.linear import Linear
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim, Signer
from spinney.serving.frequency_sketch import Frequencies
from spinney.storage.layout import FleetStore
from spinney.tables import delta, lookup
from spinney.tables.lookup import RowFilter

CARRIED_BYTES = 4096
"""Payloads up to this size are stored with their promotion; larger ones are fetched by model_id."""

CACHE_BYTES = 256 << 20
"""Maximum bytes of models that a worker keeps loaded."""

OBJECT_BYTES = 768
"""Bytes counted per loaded model in addition to its payload: a linear model of eight features takes 750 B, its payload
290 B.
"""

_Name = tuple[str, str]
"""A model's group or parent, and its model_id."""

_Opened = Mapping[_Name, tuple[Model, int] | None]
"""Loaded models with their sizes in bytes; None for a model that is refused."""


@dataclass(frozen=True)
class SignedPayload:
    """A payload as stored."""

    codec: str
    payload: bytes
    signature: bytes


_STORED = ("model_id", "codec", "payload", "signature")

Fetch = Callable[[Mapping[str, str]], Mapping[str, list[SignedPayload]]]
"""Fetches payloads that are not stored with promotions. Takes model_id -> group or parent; returns model_id ->
payloads.
"""


class ModelCache:
    """Loaded models, bounded by bytes.

    A model_id identifies its bytes, so no entry becomes outdated. Safe to use from several threads: a model that
    several ask for at once is loaded by one of them, and the others wait for it.

    limit: bytes of payloads, and OBJECT_BYTES for each model.

    Keys are owner and model_id. Otherwise a promotion that names another group's model would find it here, although its
    signature was verified for that other group.

    When full, it admits a model only in place of least recently used ones that were requested less often (TinyLFU:
    Einziger et al. 2017). So a pass over more models than fit leaves those that are cached, and the next pass finds
    them. By recency alone, each would be evicted just before it is requested again.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._models: OrderedDict[_Name, tuple[Model, int]] = OrderedDict()
        self._loading: dict[_Name, Future[_Opened]] = {}
        self._lock = Lock()
        self._asked = Frequencies()
        self._bytes = self._hits = self._loads = 0

    @property
    def counts(self) -> CacheCounts:
        """Return the statistics of the cache."""
        with self._lock:
            return CacheCounts(self._hits, self._loads, len(self._models), self._bytes)

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
        names: dict[_Name, Promotion] = {(owner, name): row for name, (owner, row) in wanted.items()}
        future: Future[_Opened] = Future()
        with self._lock:
            found = self._find(names)
            missing = [name for name in names if name not in found]
            of_others = {name: self._loading[name] for name in missing if name in self._loading}
            own = {name: names[name] for name in missing if name not in of_others}
            self._loading.update(dict.fromkeys(own, future))
        opened = dict(self._open(own, future, store, signer, fetched_by)) if own else {}
        # After loading its own, so that two threads that need each other's models do not deadlock.
        opened |= {name: loading.result()[name] for name, loading in of_others.items()}
        loaded = {name[1]: opened_model[0] for name, opened_model in opened.items() if opened_model is not None}
        loaded |= {name[1]: model for name, model in found.items()}
        return loaded, {name for name in wanted if name not in loaded}

    def find_loaded(self, wanted: Mapping[str, tuple[str, Promotion]]) -> dict[str, Model] | None:
        """Return the models by model_id if all of them are loaded, else None. A None leaves the statistics unchanged.

        wanted: as in `load`.
        """
        names = [(owner, name) for name, (owner, _) in wanted.items()]
        with self._lock:
            if any(name not in self._models for name in names):
                return None
            return {name[1]: model for name, model in self._find(names).items()}

    def _find(self, names: Iterable[_Name]) -> dict[_Name, Model]:
        """Return the models among these that are cached."""
        if self._bytes > self._limit // 2:  # counting takes 3 us a model, and before that nothing is evicted
            for name in names:
                self._asked.count(name)
        found = {}
        for name in names:
            if name in self._models:
                self._models.move_to_end(name)
                found[name] = self._models[name][0]
        self._hits += len(found)
        return found

    def _open(
        self,
        own: Mapping[_Name, Promotion],
        loading: Future[_Opened],
        store: FleetStore,
        signer: Signer,
        fetched_by: Fetch | None,
    ) -> _Opened:
        """Load models that no other thread is loading, and release the threads that wait for them."""
        try:
            elsewhere = {name: owner for (owner, name), row in own.items() if row.payload is None}
            fetched = fetched_by(elsewhere) if fetched_by else fetch_models(store, elsewhere)
            opened: dict[_Name, tuple[Model, int] | None] = {}
            for (owner, name), row in own.items():
                carried = [SignedPayload(row.codec or "", row.payload or b"", row.signature or b"")]
                opened[owner, name] = _open_first_valid(owner, name, fetched.get(name) or carried, signer)
        except BaseException as error:
            self._loaded(own, {})
            loading.set_exception(error)
            raise
        self._loaded(own, opened)
        loading.set_result(opened)
        return opened

    def _loaded(self, own: Iterable[_Name], opened: _Opened) -> None:
        with self._lock:
            for name in own:
                del self._loading[name]
            self._loads += len(opened)
            for name, opened_model in opened.items():
                if opened_model is not None:
                    self._keep(name, *opened_model)

    def _keep(self, name: _Name, model: Model, size: int) -> None:
        """Admit a model, unless it is too large or would evict one that was requested as often."""
        free, requests, leaving = self._limit - self._bytes, self._asked[name], []
        for other, (_, other_size) in self._models.items():
            if free >= size:
                break
            if self._asked[other] >= requests:
                return
            leaving.append(other)
            free += other_size
        if free < size:
            return
        for other in leaving:
            self._bytes -= self._models.pop(other)[1]
        self._models[name] = (model, size)
        self._bytes += size


@dataclass(frozen=True)
class CacheCounts:
    """Statistics of the cache. hits: models found. loads: models loaded or refused. models, bytes: cached now."""

    hits: int
    loads: int
    models: int
    bytes: int


def _open_first_valid(
    owner: str, model_id: str, stored: Iterable[SignedPayload], signer: Signer
) -> tuple[Model, int] | None:
    """Return the first model with a valid signature for this group, and its size in bytes; None without one.

    No payload is parsed before its signature was verified.
    """
    for payload in stored:
        with suppress(Corrupt):
            claim = Claim(owner, model_id, payload.codec)
            return codec.load_signed(signer, claim, payload.payload, payload.signature), OBJECT_BYTES + len(
                payload.payload
            )
    return None


@lru_cache(maxsize=1)
def cache() -> ModelCache:
    """Return this process's cache, which outlives the tasks and queries of a Spark worker."""
    return ModelCache()


@dataclass(frozen=True)
class ModelSource:
    """Loads the models for predictions.

    store: the fleet's tables. signer: verifies models. fetched_by: fetches payloads that are not stored with
    promotions; None: from the table `models`. cache: by default this process's.
    """

    store: FleetStore
    signer: Signer
    fetched_by: Fetch | None = None
    cache: ModelCache = field(default_factory=cache)

    def load(self, wanted: Mapping[str, tuple[str, Promotion]]) -> tuple[dict[str, Model], set[str]]:
        """As `ModelCache.load`."""
        return self.cache.load(wanted, self.store, self.signer, self.fetched_by)


class NotLoadedError(Exception):
    """An answer would take too long at once: a model must be loaded or is not linear, or
    intervals must be calibrated.
    """


class LoadedLinearModels(ModelSource):
    """Models that answer within microseconds: loaded, and of the linear family, which predicts by array arithmetic."""

    def load(self, wanted: Mapping[str, tuple[str, Promotion]]) -> tuple[dict[str, Model], set[str]]:
        """As `ModelCache.load`. Raises NotLoadedError for any other model."""
        found = self.cache.find_loaded(wanted)
        if found is None or not all(isinstance(model.estimator, Linear) for model in found.values()):
            raise NotLoadedError
        return found, set()


def fetch_models(store: FleetStore, owners: Mapping[str, str]) -> dict[str, list[SignedPayload]]:
    """Return payloads by model_id, as `read_stored_models` does. Raises StoreError if a promoted model has none: it was
    never stored, or has been deleted.
    """
    found = read_stored_models(store, owners)
    _refuse_missing(owners, found)
    return found


def read_stored_models(store: FleetStore, owners: Mapping[str, str]) -> dict[str, list[SignedPayload]]:
    """Return payloads by model_id from all directories of `models`; several if a model was signed with several keys.

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
            f"models: model {missing[0]} of group {owners[missing[0]]} is promoted but not stored "
            f"({len(missing)} such); restore the table, or fit the group again: spinney retrain --group"
        )
