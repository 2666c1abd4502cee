"""Deliver rounds to MLflow: one run per weekly batch, and one per stream and day with its rounds as steps.

The deliverer reads the tables, so no model waits for MLflow. While MLflow is down, rounds stay in their table and are
delivered once it is back. A lease lets one process deliver at a time.

========== ==========================================================================================
server     MLflow's client, one call at a time, at a pace
runs       which run is which, by tags; none is made twice
backlog    which rounds are not delivered yet
rounds     a round as metrics and files: as many calls for a thousand groups as for a million
attempts   each group's attempt in a round, from `models` and `promotions`
losses     what the labels have shown since, by round
plots      the charts of a round
group_runs mode `group`: a nested run for each group of a round, with its model
registry   a fleet at one time as a registered model
========== ==========================================================================================
"""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import suppress
from dataclasses import replace

from spinney.core.config import Config
from spinney.core.config.secrets import mask_passwords
from spinney.core.errors import Busy
from spinney.core.recipes.recipe import Recipe
from spinney.storage import charter, leases
from spinney.storage.layout import FleetStore
from spinney.tracking import backlog
from spinney.tracking.group_runs import RoundGroupRuns
from spinney.tracking.mlflow_client import DeliveryClient, DeliveryProgress, DeliveryStopped
from spinney.tracking.rounds import is_over, newest_of_stream, report_rounds, rounds_by_run
from spinney.tracking.runs import RUNNING, RunIndex

log = logging.getLogger(__name__)

EVERY_SECONDS = 30.0
STOP_SECONDS = 30.0
"""Seconds that a stop waits for a last delivery. Rounds that are not delivered then are delivered at the next start."""

ANSWER_SECONDS = 600.0
"""Seconds to wait for an answer of MLflow. Its client retries by itself for minutes and respects `Retry-After`."""

LOOK_SECONDS = 1.0
"""Seconds between two checks of a delivery's progress."""

LEAVING_SECONDS = 5.0
"""Seconds for the current call to end after a delivery was asked to stop."""


class Deliverer:
    """Delivers rounds to MLflow in its own thread."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stopping = threading.Event()
        self._watch = DeliveryProgress()
        self._lookout = backlog.BacklogProbe(FleetStore.of(config))
        self._told = ""
        self._ends_stream = False
        self._thread = threading.Thread(target=self._deliver_until_stopped, name="tracking", daemon=True)

    def start(self) -> None:
        """Start the thread, unless tracking is off."""
        if self._config.tracking.mode != "off":
            self._thread.start()

    def stop(self) -> None:
        """Deliver the stream's remaining rounds once, end its run, and stop.

        Gives up on a server that does not answer.
        """
        self._ends_stream = True
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
            self._leave()

    def finish(self, stop_requested: threading.Event, *, ends_stream: bool = False) -> None:
        """Deliver the remaining rounds while MLflow answers, then stop.

        Ctrl-C or `stop_requested` leaves the rest to the next delivery. ends_stream: whether the stream's run is ended
        too.
        """
        self._ends_stream = ends_stream
        self._stopping.set()
        show = sys.stderr.isatty()
        with suppress(KeyboardInterrupt):
            while self._thread.is_alive() and self._watch.still_for < ANSWER_SECONDS and not stop_requested.is_set():
                self._thread.join(LOOK_SECONDS)
                if show and self._watch.words:
                    sys.stderr.write(
                        f"\r\x1b[KMLflow: {self._watch.words}; Ctrl-C leaves the rest to the next delivery"
                    )
        if show:
            sys.stderr.write("\r\x1b[K")
        self._leave()

    def _leave(self) -> None:
        """Stop waiting for a delivery that is still running, and report it."""
        if self._thread.is_alive():
            words = self._watch.words or "not done"
            self._watch.leaving.set()
            log.warning("MLflow: %s; the rest follows with the next batch or stream", words)
            self._thread.join(LEAVING_SECONDS)

    def _deliver_until_stopped(self) -> None:
        last, done = False, None
        while not last:
            last = self._stopping.wait(EVERY_SECONDS)
            try:
                seen = self._lookout.look()
                with suppress(Busy, DeliveryStopped):  # another process delivers: the next check delivers the rest
                    ends_stream = last and self._ends_stream
                    if seen is None or seen != done or ends_stream:
                        deliver(self._config, self._watch, ends_stream=ends_stream)
                        done = seen
                self._told = ""
            except Exception as error:
                # No fault of the tracking server stops the fleet; the rounds stay in their table.
                problem = mask_passwords(f"MLflow at {self._config.tracking.uri}: {error}")
                if problem != self._told:  # an outage of a day is reported once
                    log.warning("%s; rounds are kept and delivered later", problem)
                self._told = problem


def deliver_now(config: Config, stop_requested: threading.Event | None = None, *, ends_stream: bool = False) -> None:
    """Deliver the remaining rounds as long as the server answers. The next delivery continues with the rest.

    stop_requested: ends the delivery when it is set; for processes that handle Ctrl-C elsewhere. ends_stream: whether
    the stream has ended, so that its run is ended too.
    """
    deliverer = Deliverer(config)
    deliverer.start()
    deliverer.finish(stop_requested or threading.Event(), ends_stream=ends_stream)


def deliver(config: Config, watch: DeliveryProgress | None = None, *, ends_stream: bool = False) -> int:
    """Deliver every round that is not delivered yet. Returns their number. ends_stream: whether the stream's run is
    ended too.

    Raises MLflow's errors, Busy while another process delivers, DeliveryStopped if it is asked to stop.
    """
    store = FleetStore.of(config)
    recorded = backlog.unfinished_rounds(store)
    if config.tracking.mode == "off" or backlog.is_empty(recorded):
        return 0
    with leases.held(store, [leases.TRACKING]), DeliveryClient(config.tracking, watch or DeliveryProgress()) as server:
        return _deliver(config, recorded, server, ends_stream=ends_stream)


def _deliver(config: Config, recorded: backlog.OpenedRounds, server: DeliveryClient, *, ends_stream: bool) -> int:
    store, current, experiment = FleetStore.of(config), Recipe.of(config), server.experiment(config.fleet.name)
    shelf = RunIndex(server, config.fleet.name, experiment, charter.ensure_charter(store).fleet_id)
    known = shelf.known()
    named = rounds_by_run(backlog.undelivered_rounds(recorded, known), known)
    runs = shelf.with_runs(known, {name: rows[0] for name, rows in named.items()})
    left = {name: [row for row in rows if row["batch_id"] > runs[name].through] for name, rows in named.items()}
    delivered = server.watch.rounds = sum(map(len, left.values()))
    for name, fresh in left.items():
        run = runs[name]
        if fresh and not run.open and not is_over(name):  # the stream was restarted on the same day
            server.ask("update_run", run.run_id, RUNNING)
            runs[name] = replace(run, open=True)
        if config.tracking.mode == "group":
            for row in fresh:
                RoundGroupRuns(server, store, current, experiment, run, row).deliver()
                report_rounds(server, store, current, run, [row])
                run = replace(run, through=row["batch_id"])
                server.watch.rounds -= 1
        elif fresh:
            report_rounds(server, store, current, run, fresh)
            server.watch.rounds -= len(fresh)
    going_on = set() if ends_stream else {newest_of_stream(runs, named)}
    for name, run in runs.items():
        if run.open and (is_over(name) or name not in going_on):
            server.ask("set_terminated", run.run_id, "FINISHED")
    return delivered
