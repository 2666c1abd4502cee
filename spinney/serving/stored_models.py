"""Fetch payloads from `models` for a process that must keep answering if one is missing or corrupt."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Lock

from spinney.core.errors import Corrupt
from spinney.core.models.signing import Claim, Signer
from spinney.serving.model_cache import SignedPayload, read_stored_models
from spinney.storage.layout import FleetStore

log = logging.getLogger(__name__)

MAX_MISSES = 10_000
"""Maximum number of models remembered as missing, about 200 bytes each."""

RETRY_AFTER_S = 30.0
"""Seconds after which a missing model is looked for again."""


class StoredModels:
    """Fetches verified payloads, and remembers missing models for a while. Thread-safe.

    clock: returns seconds that never go back.
    """

    def __init__(
        self,
        store: FleetStore,
        signer: Signer,
        *,
        max_misses: int = MAX_MISSES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._signer, self._clock, self._max_misses = store, signer, clock, max_misses
        self._missed: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._lock = Lock()

    def fetch(self, owners: Mapping[str, str]) -> dict[str, list[SignedPayload]]:
        """Return payloads by model_id. Models without a payload with a valid signature are left out, so that another
        model answers.

        owners: model_id -> its group or parent.
        """
        oldest = self._clock() - RETRY_AFTER_S
        with self._lock:
            wanted = {
                name: owner for name, owner in owners.items() if self._missed.get((owner, name), oldest) <= oldest
            }
        stored = read_stored_models(self._store, wanted)
        found = {}
        for name, owner in wanted.items():
            if valid := [payload for payload in stored.get(name, ()) if self._is_valid(owner, name, payload)]:
                found[name] = valid
            else:
                self._remember(owner, name)
        return found

    def _is_valid(self, owner: str, model_id: str, signed: SignedPayload) -> bool:
        with suppress(Corrupt):
            self._signer.verify(Claim(owner, model_id, signed.codec), signed.payload, signed.signature)
            return True
        return False

    def _remember(self, owner: str, model_id: str) -> None:
        log.warning(
            "group %s: expected model %s in the table models, with a valid signature; got none. The model before it or "
            "a parent's answers. Restore the table, or fit the group again: spinney retrain --group",
            owner,
            model_id[:12],
        )
        with self._lock:
            self._missed[owner, model_id] = self._clock()
            self._missed.move_to_end((owner, model_id))
            while len(self._missed) > self._max_misses:
                self._missed.popitem(last=False)
