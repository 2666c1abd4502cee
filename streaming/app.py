"""The four queries as one long-lived application.

``spinney stream``, or ``spark-submit streaming/app.py --config fleet.toml``.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.streaming.listener import StreamingQueryProgress
from pyspark.sql.streaming.query import StreamingQuery

from spinney import tracking
from spinney.core.config import Config
from spinney.core.errors import Busy, SpinneyError, StoreError, exit_code
from spinney.kafka import client, topic_ids, topics
from spinney.spark.session import session
from spinney.storage import charter, last_configuration, leases, signing_key
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from streaming import ingest, labels, retrain, score
from streaming.activity import Activity
from streaming.query import Query, Stopping
from streaming.query_names import NAMES, named
from streaming.reporting import Reporter, TextReporter
from streaming.tidying import Tidier
from streaming.validated_records import Editions

POLL_SECONDS = 1.0
"""Between two looks at the queries: each asks the JVM for the progress of all of them."""

STOP_POLL_SECONDS = 0.05
LOOK_SECONDS = 5.0
"""Between two looks at a draining query: Spark keeps the progress of its last hundred batches."""

SECONDS_BETWEEN_TOPICS = 60.0
"""Between two looks whether the topics are still the same ones."""

REPORT_SECONDS = 60.0
SHOW_SECONDS = 5.0

log = logging.getLogger(__name__)


@dataclass
class Application:
    """Queries that run together and stop between two batches. triggers: by query, in place of its own."""

    spark: SparkSession
    config: Config
    only: tuple[str, ...] = ()
    triggers: Mapping[str, str] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    running: dict[str, StreamingQuery] = field(default_factory=dict)
    editions: Editions = ()
    _leases: ExitStack = field(default_factory=ExitStack)
    _tracking: tracking.Deliverer = field(init=False)
    _tidier: Tidier = field(init=False)
    names: tuple[str, ...] = field(init=False)
    _activity: Activity | None = None

    def __post_init__(self) -> None:
        self._tracking = tracking.Deliverer(self.config)
        self._tidier = Tidier(self.config)
        self.names = named(self.config, self.only)

    def prepare(self) -> None:
        """Tables and topics are there, the same as before, and the leases are ours. Raises StoreError, Busy."""
        delta.create_tables(self.config)
        found = topics.require_topics(self.config.kafka, client.topics_of(self.config.kafka))
        topic_ids.ensure_same(self.config, found)
        self._leases.enter_context(leases.held(FleetStore.of(self.config), self.names))
        self.editions = charter.amended(self.config, self.names).editions
        last_configuration.remember(self.config)
        self._activity = Activity(self.config, self.names)

    def start(self) -> None:
        """Start every query. Whatever it raises, `stop` ends what was started."""
        self.prepare()
        for name in self.names:
            query = self._query(name, once=False)
            query = replace(query, trigger=self.triggers.get(name, query.trigger))
            self.running[name] = query.start(self.config, self.stopping, once=False)
            self._tidier.add(name, query.writing)
        self._tidier.start()
        if retrain.NAME in self.names:
            self._tracking.start()

    def drain(self) -> None:
        """Each query works off what is there, in the order of the flow, and ends; a stop ends it between two batches.

        Raises StoreError when a query has failed, or dropped a row as too late.
        """
        with self._leases:
            self.prepare()
            for name in self.names:
                if self.stopping.is_set():
                    return
                query = self._query(name, once=True).start(self.config, self.stopping, once=True)
                self.running[name] = query
                with suppress(PySparkException):  # said in a sentence by the next line
                    while not query.awaitTermination(LOOK_SECONDS):
                        self._take_in(name, query)
                self._take_in(name, query)
                self._refuse_failure(name, query)
                _refuse_dropped(name, query.recentProgress)
        # Without the leases: it may take long, and the next drain need not wait for MLflow.
        if retrain.NAME in self.names and not self.stopping.is_set():
            tracking.deliver_now(self.config, self.stopping, ends_stream=True)

    def _query(self, name: str, *, once: bool) -> Query:
        if name == ingest.NAME:
            return ingest.query(self.spark, self.config, self.editions)
        if name == labels.NAME:
            return labels.query(self.spark, self.config)
        signer = signing_key.signer(FleetStore.of(self.config))
        if name == score.NAME:
            return score.query(self.spark, self.config, signer, self.editions)
        return retrain.query(self.spark, self.config, signer, once=once)

    def report(self, reporter: Reporter | None, *, whole: bool = False) -> None:
        """Tell what the queries did since the last call, or since they began. whole: of idle queries too."""
        if reporter is None or self._activity is None:
            return
        for name, query in self.running.items():
            self._take_in(name, query)
        try:
            reporter.did([each for each in self._activity.reports() if whole or not each.is_empty])
        except Exception as error:
            # The fleet goes on untold, and an error that ends it is not hidden by this one.
            log.warning("what the queries did cannot be told: %s", error)

    def _take_in(self, name: str, query: StreamingQuery) -> None:
        if name == ingest.NAME and self._activity is not None:
            with suppress(Exception):  # of a JVM that is gone
                self._activity.saw(query.recentProgress)

    def watch(self, reporter: Reporter | None = None) -> None:
        """Until a stop is asked for, a query fails or a topic is made again. Raises StoreError with what failed."""
        shown = looked = reported = time.monotonic()
        while not self.stopping.wait(POLL_SECONDS):
            self.check()
            if time.monotonic() - looked >= SECONDS_BETWEEN_TOPICS:
                self.check_topics()
                looked = time.monotonic()
            if reporter and time.monotonic() - shown >= SHOW_SECONDS:
                reporter.progress(self.progress())
                shown = time.monotonic()
            if reporter and time.monotonic() - reported >= REPORT_SECONDS:
                self.report(reporter)
                reported = time.monotonic()

    def check(self) -> None:
        """Raises StoreError when a query has failed, or dropped a row as too late."""
        for name, query in self.running.items():
            if not query.isActive:
                self._refuse_failure(name, query)
            last = query.lastProgress
            _refuse_dropped(name, [last] if last else [])

    def check_topics(self) -> None:
        """Raises StoreError when a topic was made again; a broker that does not answer is the queries' own concern."""
        with suppress(Busy):
            found = topics.describe_topics(self.config.kafka, client.topics_read(self.config.kafka))
            for topic in topic_ids.recreated_topics(self.config, found):
                raise StoreError(topic_ids.explain_recreated(self.config, topic))

    def _refuse_failure(self, name: str, query: StreamingQuery) -> None:
        error = query.exception()
        asked_to_stop = self.stopping.is_set() and f"{Stopping.__module__}.{Stopping.__name__}" in str(error)
        if error is not None and not asked_to_stop:
            raise StoreError(f"query {name}: {_first_words(error)}") from error

    def progress(self) -> list[dict[str, Any]]:
        """The newest finished batch of each query, as Spark reports it; empty before the first."""
        return [dict(last) for query in self.running.values() if (last := query.lastProgress) is not None]

    def stop(self, patience_seconds: float = 120.0) -> None:
        """Stop every query between two batches; one that is still in a batch after the patience is cut off there.

        A batch that is cut off is replayed at the next start and changes nothing twice. What ended by itself stays in
        `running`, for `check` to say why.
        """
        self.stopping.set()
        until = time.monotonic() + patience_seconds
        ended = {}
        try:
            for name, query in self.running.items():
                # A batch that begins now ends before its first write, by Stopping.
                while query.isActive and query.status["isTriggerActive"] and time.monotonic() < until:
                    time.sleep(STOP_POLL_SECONDS)
                if not query.isActive:
                    ended[name] = query
                query.stop()
                self._take_in(name, query)
        finally:
            self.running = ended
            self._tidier.stop()
            self._tracking.stop()
            self._leases.close()


def _refuse_dropped(name: str, batches: Iterable[StreamingQueryProgress]) -> None:
    """The watermarks follow arrival, so nothing can be too late: a row that was is a clock gone wrong."""
    dropped = sum(each.numRowsDroppedByWatermark for batch in batches for each in batch.stateOperators)
    if dropped:
        raise StoreError(
            f"query {name}: {dropped} rows were dropped as too late; this machine's clock must have leapt. "
            "Set it right, and start the fleet anew from its topics under another storage.root"
        )


def _first_words(error: PySparkException) -> str:
    """The sentence a person can act on: our own error where there is one in the JVM's long story."""
    text = str(error)
    for line in text.splitlines():
        if "spinney.core.errors." in line:
            return line.partition("spinney.core.errors.")[2]
    return text.splitlines()[0] if text else type(error).__name__


def run(
    config: Config,
    only: Sequence[str] = (),
    *,
    once: bool = False,
    spark: SparkSession | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Run the application until SIGTERM or Ctrl-C; with once, until what is there is drained.

    Raises StoreError when a query fails, while it stops too.
    """
    application = Application(spark or session(config), config, tuple(only))
    with _signals(application.stopping):
        try:
            if once:
                application.drain()
            else:
                _run_on(application, reporter)
        finally:
            application.report(reporter, whole=once)
        if not once:
            application.check()


def _run_on(application: Application, reporter: Reporter | None) -> None:
    try:
        application.start()
        if reporter:
            reporter.ready(application.names)
        application.watch(reporter)
    finally:
        application.stop()


def _signals(stopping: threading.Event) -> ExitStack:
    """SIGTERM and SIGINT ask for a stop; the handlers before are put back at the end."""

    def ask(number: int, frame: FrameType | None) -> None:
        del number, frame
        stopping.set()

    stack = ExitStack()
    for number in (signal.SIGTERM, signal.SIGINT):
        stack.callback(signal.signal, number, signal.signal(number, ask))
    return stack


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="streaming/app.py", description=__doc__)
    parser.add_argument("--config", default="fleet.toml", help="the fleet's configuration")
    parser.add_argument("--only", action="append", default=[], choices=NAMES, help="this query alone; may be repeated")
    parser.add_argument("--once", action="store_true", help="drain what is there, then exit")
    accept = "this topic was deleted and made again: read the new one from its start; may be repeated"
    parser.add_argument("--accept-topic", action="append", default=[], metavar="TOPIC", help=accept)
    asked = parser.parse_args(arguments)
    try:
        config = read_config(asked.config)
        if (sentence := charter.beginning(FleetStore.of(config))) is not None:
            _say(sentence)
        for said in topic_ids.accept_topics(config, asked.accept_topic):
            _say(said)
        run(config, asked.only, once=asked.once, reporter=TextReporter(_say))
    except SpinneyError as error:
        _say(f"spinney: {error}")
        return exit_code(error)
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
