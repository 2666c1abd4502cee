"""The fleet, threads and settings that all HTTP routes of a gateway share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from fastapi import Request

from spinney.core.config import Config
from spinney.core.errors import ContractError, StoreError
from spinney.fleet import Fleet
from spinney.gateway.answers.champion_refresh import ChampionRefresh
from spinney.gateway.answers.fleet_answers import FleetAnswers, RecordAnswers, Records
from spinney.gateway.errors import RequestError
from spinney.gateway.limits.request_body import MIB, max_values, most_bytes, read_body, require_few_values
from spinney.gateway.limits.work_queue import WorkQueue
from spinney.gateway.monitoring.metrics import Metrics
from spinney.gateway.page.routes import Authorize
from spinney.serving.answers import ancestors
from spinney.serving.model_cache import ModelCache, NotLoadedError
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore

T = TypeVar("T")

Answer = Callable[[Records], RecordAnswers]
"""Answers records. Raises RequestError for every error that the caller can cause."""

STALE_AFTER_S = 60.0
"""Seconds without a successful look at the tables after which the gateway is no longer ready."""


@dataclass(frozen=True)
class Guard:
    """Checks whether a caller may read, score or operate. Each check returns the caller's name.

    A check raises RequestError if the request has no key, or one without the scope.
    """

    read: Authorize
    score: Authorize
    operate: Authorize


class Service:
    """One fleet and the threads that answer for it.

    Raises StoreError if the tables do not exist, SetupError without a signing key.
    """

    def __init__(self, config: Config, guard: Guard) -> None:
        store, gateway = FleetStore.of(config), config.gateway
        self.config, self.guard, self.fleet = config, guard, Fleet(config)
        self.cache, self.feed = ModelCache(gateway.cache_mib << 20), ChampionRefresh(store)
        self.answers = FleetAnswers(config, signing_key.load_signer(store), lambda: self.feed.current, self.cache)
        self.feed.prepare = self.answers.prepare
        self.metrics = Metrics()
        self.is_draining = False
        self.time_limit_s = gateway.time_limit.total_seconds()
        self._max_values = max_values(gateway.max_rows, len(config.fleet.columns))
        self.queue = WorkQueue(
            gateway.concurrency, gateway.waiting, self.time_limit_s, max_bytes=gateway.bodies_mib * MIB
        )

    @property
    def is_ready(self) -> bool:
        """Whether the tables were read within STALE_AFTER_S and the server is not draining."""
        return self.feed.age_s < STALE_AFTER_S and not self.is_draining

    def start(self) -> None:
        """Start to look for new champions."""
        self.feed.start()

    def drain(self) -> None:
        """Report to health checks that this server is not ready, and ask clients to close their connections."""
        self.is_draining = True

    def stop(self) -> None:
        """End the threads."""
        self.feed.stop()
        self.queue.close()

    async def run(self, request: Request, function: Callable[[bytes, Answer], T], *, may_be_small: bool = True) -> T:
        """Call a function with a request's body and with the function that answers its records.

        It runs in the event loop if it can answer at once, else in a thread. may_be_small: whether a body of
        SMALL_BYTES is read within a millisecond; if not, a thread is used. Raises RequestError if the request is
        refused.
        """
        return await self.queue.run_on_body(
            lambda raw: function(require_few_values(raw, self._max_values), self.answer),
            lambda: read_body(request, self.config.gateway.max_mib),
            partial(self._run_at_once, function) if may_be_small else None,
            most_bytes(request, self.config.gateway.max_mib),
        )

    def _run_at_once(self, function: Callable[[bytes, Answer], T], raw: bytes) -> T | None:
        try:
            return function(raw, self.answer_at_once)
        except NotLoadedError:
            return None

    def has_answer(self, group_key: str) -> bool:
        """Whether a group, or a parent that may answer for it, has a champion now."""
        champions = self.feed.current
        owners = (group_key, *ancestors(self.config.fleet, group_key))
        return any(champions.champion_of(owner) is not None for owner in owners)

    def answer(self, records: Records) -> RecordAnswers:
        """As `FleetAnswers.answer`. Raises RequestError for every error that the caller can cause."""
        return self._counted(self.answers.answer, records)

    def answer_at_once(self, records: Records) -> RecordAnswers:
        """As `FleetAnswers.answer_at_once`. Raises RequestError for every error that the caller can cause."""
        return self._counted(self.answers.answer_at_once, records)

    def _counted(self, answer: Answer, records: Records) -> RecordAnswers:
        try:
            found = answer(records)
        except ContractError as error:
            raise RequestError(422, "contract", str(error)) from error
        except StoreError as error:
            if records.as_of is None or self.config.storage.root in str(error):
                raise
            raise RequestError(422, "as_of", str(error)) from error
        self.metrics.count_rows(found.answered_by())
        return found


def require_valid(answers: RecordAnswers, status: int) -> RecordAnswers:
    """Return the answers. Raises RequestError with this status for the first record that is not valid."""
    for place, error in sorted(answers.errors.items()):
        raise RequestError(status, error.reason, f"record {place}: {error.detail}. Correct it, or leave it out")
    return answers
