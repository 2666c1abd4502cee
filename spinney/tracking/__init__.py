"""Rounds → MLflow: one run per weekly batch, one per stream and day with its rounds as steps.

The deliverer reads the tables, so MLflow may be down, slow or gone: models do not wait for it, and what was not
delivered is delivered when it is back. A lease lets one process deliver at a time.

=========  ==========================================================================================
server     MLflow's client, one call at a time, at a pace
runs       which run is which, by tags; none is made twice
backlog    which rounds are not delivered yet
rounds     what is told of a round: as many calls for a thousand groups as for a million
attempts   what a round said of each group, from `models` and `promotions`
figures    the round drawn
nested     mode `group`: a run in the round's for each group, with its model
=========  ==========================================================================================
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
from spinney.storage import charter, leases
from spinney.storage.layout import FleetStore
from spinney.tracking import backlog
from spinney.tracking.group_runs import RoundGroupRuns
from spinney.tracking.rounds import is_over, newest_of_stream, report_rounds, rounds_by_run
from spinney.tracking.runs import RUNNING, RunIndex
from spinney.tracking.server import DeliveryProgress, DeliveryStopped, Server

log = logging.getLogger(__name__)

EVERY_SECONDS = 30.0
STOP_SECONDS = 30.0
"""How long a stop waits for a last delivery; what is not delivered then is at the next start."""

ANSWER_SECONDS = 600.0
"""How long one answer is waited for: MLflow's client itself asks again for minutes, heeding `Retry-After`."""

LOOK_SECONDS = 1.0
"""Between two looks at how far a delivery is."""

LEAVING_SECONDS = 5.0
"""For the call that is under way when the delivery is told to leave."""


class Deliverer:
    """The one that talks to MLflow, in a thread of its own beside the work."""

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
        """Deliver what is left of the stream, once, end its run, and end; a server that does not answer is left."""
        self._ends_stream = True
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
            self._leave()

    def finish(self, asked: threading.Event, *, ends_stream: bool = False) -> None:
        """Deliver what is left, for as long as MLflow goes on answering, and end.

        Ctrl-C or `asked` leaves the rest to the next delivery. ends_stream: the stream's run ends too.
        """
        self._ends_stream = ends_stream
        self._stopping.set()
        show = sys.stderr.isatty()
        with suppress(KeyboardInterrupt):
            while self._thread.is_alive() and self._watch.still_for < ANSWER_SECONDS and not asked.is_set():
                self._thread.join(LOOK_SECONDS)
                if show and self._watch.words:
                    sys.stderr.write(f"\r\x1b[KMLflow: {self._watch.words}; Ctrl-C leaves the rest for the next time")
        if show:
            sys.stderr.write("\r\x1b[K")
        self._leave()

    def _leave(self) -> None:
        """End a delivery that has not ended by itself, and say so."""
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
                with suppress(Busy, DeliveryStopped):  # another process delivers; what is left, the next look delivers
                    ends_stream = last and self._ends_stream
                    if seen is None or seen != done or ends_stream:
                        deliver(self._config, self._watch, ends_stream=ends_stream)
                        done = seen
                self._told = ""
            except Exception as error:
                # Whatever the tracking server does, the fleet goes on; the rounds stay in their table.
                said = mask_passwords(f"MLflow at {self._config.tracking.uri}: {error}")
                if said != self._told:  # a server that is down for a day is told of once
                    log.warning("%s; rounds are kept and delivered later", said)
                self._told = said


def deliver_now(config: Config, asked: threading.Event | None = None, *, ends_stream: bool = False) -> None:
    """Deliver what is left, as long as the server goes on answering; the next delivery brings the rest.

    asked: set to have it end, as Ctrl-C does where no one else listens for that. ends_stream: the stream has ended.
    """
    deliverer = Deliverer(config)
    deliverer.start()
    deliverer.finish(asked or threading.Event(), ends_stream=ends_stream)


def deliver(config: Config, watch: DeliveryProgress | None = None, *, ends_stream: bool = False) -> int:
    """Deliver every round that is not there yet. Returns how many. ends_stream: the stream's run ends as well.

    Raises what MLflow raises, Busy while another process delivers, Left when it is told to leave.
    """
    store = FleetStore.of(config)
    recorded = backlog.open_rounds(store)
    if config.tracking.mode == "off" or backlog.is_empty(recorded):
        return 0
    with leases.held(store, [leases.TRACKING]), Server(config.tracking, watch or DeliveryProgress()) as server:
        return _deliver(config, recorded, server, ends_stream=ends_stream)


def _deliver(config: Config, recorded: backlog.OpenedRounds, server: Server, *, ends_stream: bool) -> int:
    experiment = server.experiment(config.fleet.name)
    shelf = RunIndex(server, config, experiment, charter.ensure_charter(config).fleet_id)
    known = shelf.known()
    named = rounds_by_run(backlog.undelivered_rounds(recorded, known), known)
    runs = shelf.with_runs(known, {name: rows[0] for name, rows in named.items()})
    left = {name: [row for row in rows if row["batch_id"] > runs[name].through] for name, rows in named.items()}
    delivered = server.watch.rounds = sum(map(len, left.values()))
    for name, fresh in left.items():
        run = runs[name]
        if fresh and not run.open and not is_over(name):  # a stream that had ended and began again that day
            server.ask("update_run", run.run_id, RUNNING)
            runs[name] = replace(run, open=True)
        if config.tracking.mode == "group":
            for row in fresh:
                RoundGroupRuns(server, config, experiment, run, row).deliver()
                report_rounds(server, config, run, [row])
                run = replace(run, through=row["batch_id"])
                server.watch.rounds -= 1
        elif fresh:
            report_rounds(server, config, run, fresh)
            server.watch.rounds -= len(fresh)
    going_on = set() if ends_stream else {newest_of_stream(runs, named)}
    for name, run in runs.items():
        if run.open and (is_over(name) or name not in going_on):
            server.ask("set_terminated", run.run_id, "FINISHED")
    return delivered
