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
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql.streaming.listener import StreamingQueryProgress

from spinney import tracking
from spinney.core.config import Config
from spinney.core.errors import Busy, SpinneyError, StoreError, exit_code
from spinney.kafka import client, topic_ids, topic_metadata
from spinney.spark.session import session
from spinney.spark.task_errors import error_summary
from spinney.storage import charter, last_configuration, leases, signing_key
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from streaming import ingest, labels, retrain, score
from streaming.latest_offset_reporting import OffsetReporter
from streaming.progress import ProgressListener
from streaming.query import Query, RunningQuery, StopRequested
from streaming.query_counters import QueryCounters
from streaming.query_names import QUERY_NAMES, select_queries
from streaming.reporting import Reporter, TextReporter
from streaming.table_maintenance import MaintenanceThread
from streaming.validated_records import Editions

CHECK_INTERVAL_S = 1.0
"""Seconds between two checks of the queries. Each check asks the JVM whether they still run."""

STOP_CHECK_INTERVAL_S = 0.05
TOPIC_CHECK_INTERVAL_S = 60.0
"""Seconds between two comparisons of the topics with those that were read before."""

REPORT_INTERVAL_S = 60.0
PROGRESS_INTERVAL_S = 5.0
LAST_PROGRESS_TIMEOUT_S = 10.0
"""Longest wait, in seconds, for the progress of the last batch of a query that has ended; it comes within milliseconds.
"""

log = logging.getLogger(__name__)


@dataclass
class Application:
    """Queries that run together and stop between two batches.

    only: names of the queries, all by default. triggers: query -> interval that replaces its own. stop_requested: the
    event that stops them when it is set. editions: of the rules for records, known after `prepare`.
    """

    spark: SparkSession
    config: Config
    only: tuple[str, ...] = ()
    triggers: Mapping[str, str] = field(default_factory=dict)
    stop_requested: threading.Event = field(default_factory=threading.Event)
    running: dict[str, RunningQuery] = field(default_factory=dict)
    editions: Editions = ()
    _leases: ExitStack = field(default_factory=ExitStack)
    _store: FleetStore = field(init=False)
    _tracking: tracking.Deliverer = field(init=False)
    _maintenance: MaintenanceThread = field(init=False)
    names: tuple[str, ...] = field(init=False)
    progress: ProgressListener = field(init=False)
    _offsets: OffsetReporter = field(init=False)
    _counters: QueryCounters | None = None

    def __post_init__(self) -> None:
        self._store = FleetStore.of(self.config)
        self._tracking = tracking.Deliverer(self.config)
        self._maintenance = MaintenanceThread(self.config)
        self.names = select_queries(self.config, self.only)
        self._offsets = OffsetReporter(self._store)
        self.progress = ProgressListener(self._receive_progress, self._offsets.still_current)

    def prepare(self) -> None:
        """Create missing tables, check the topics and take the leases.

        Raises:
            StoreError: a topic is missing or was recreated.
            Busy: another process holds a lease.
        """
        delta.create_tables(self._store)
        found = topic_metadata.require_topics(self.config.kafka, client.topics_of(self.config.kafka))
        topic_ids.ensure_same(self._store, self.config.kafka, found)
        self._leases.enter_context(leases.held(self._store, self.names))
        self.editions = charter.amend_when_idle(self._store, self.names).editions
        last_configuration.write_last_configuration(self.config)
        self._counters = QueryCounters(self._store, self.names)

    def start(self) -> None:
        """Start every query. If it raises, `stop` ends those that were started."""
        self.prepare()
        if retrain.NAME in self.names:
            retrain.force_batch(self._store)  # from then on its timers run, and requests are taken
        for name in self.names:
            query = self._query(name, once=False)
            query = replace(query, trigger=self.triggers.get(name, query.trigger))
            self.running[name] = query.start(self.config, self.stop_requested, self.progress, once=False)
            self._maintenance.add(name, query.write_lock)
        self._maintenance.start()
        if retrain.NAME in self.names:
            self._tracking.start()

    def drain(self, reporter: Reporter | None = None) -> None:
        """Run each query until it has processed the available data, in the order of the flow.

        A stop request ends it between two batches. reporter: is told that the queries can run, before the first one.

        Raises:
            StoreError: a query has failed.
        """
        with self._leases:
            self.prepare()
            if reporter:
                reporter.ready(self.names)
            try:
                for name in self.names:
                    if self.stop_requested.is_set():
                        return
                    self._drain_query(name)
                if retrain.NAME in self.names:
                    self._drain_requests()
            finally:
                self.progress.detach()
        # Without the leases: it may take long, and the next drain need not wait for MLflow.
        if retrain.NAME in self.names and not self.stop_requested.is_set():
            tracking.deliver_now(self.config, self.stop_requested, ends_stream=True)

    def _drain_query(self, name: str) -> None:
        query = self._query(name, once=True).start(self.config, self.stop_requested, self.progress, once=True)
        self.running[name] = query
        query.wait()
        self.progress.wait_until_complete(name, LAST_PROGRESS_TIMEOUT_S)
        self._refuse_failure(name, query)

    def _drain_requests(self) -> None:
        """Carry out the requests to retrain groups that wait now, in batches that read nothing else.

        A round takes as many requests as its budget allows, so several rounds may be needed. The last one takes none.
        """
        left, before = retrain.waiting_requests(self._store), frozenset[str]()
        while left and left != before and not self.stop_requested.is_set():
            retrain.force_batch(self._store)
            self._drain_query(retrain.NAME)
            left, before = left & retrain.waiting_requests(self._store), left

    def _query(self, name: str, *, once: bool) -> Query:
        if name == ingest.NAME:
            return ingest.query(self.spark, self.config, self.editions)
        if name == labels.NAME:
            return labels.query(self.spark, self.config)
        signer = signing_key.load_signer(self._store)
        if name == score.NAME:
            return score.query(self.spark, self.config, signer, self.editions)
        return retrain.query(self.spark, self.config, signer, once=once)

    def report(self, reporter: Reporter | None, *, whole: bool = False) -> None:
        """Report what the queries did since the last call, or since they began.

        whole: whether idle queries are reported too.
        """
        if reporter is None or self._counters is None:
            return
        try:
            reporter.report([report for report in self._counters.reports() if whole or not report.is_empty])
        except Exception as error:
            # The queries continue without a report, and an error that ends them is not hidden by this one.
            log.warning("what the queries did cannot be reported: %s", error)

    def _receive_progress(self, progress: StreamingQueryProgress) -> None:
        self._offsets.receive(progress)
        if progress.name == ingest.NAME and self._counters is not None:
            self._counters.add_progress([progress])

    def watch(self, reporter: Reporter | None = None) -> None:
        """Wait until a stop is requested.

        Raises:
            StoreError: a query has failed, or a topic was recreated.
        """
        progress_at = topics_at = report_at = time.monotonic()
        while not self.stop_requested.wait(CHECK_INTERVAL_S):
            self.check()
            if time.monotonic() - topics_at >= TOPIC_CHECK_INTERVAL_S:
                self.check_topics()
                topics_at = time.monotonic()
            if reporter and time.monotonic() - progress_at >= PROGRESS_INTERVAL_S:
                reporter.progress(self.latest_progress())
                progress_at = time.monotonic()
            if reporter and time.monotonic() - report_at >= REPORT_INTERVAL_S:
                self.report(reporter)
                report_at = time.monotonic()

    def check(self) -> None:
        """Raise StoreError if a query has failed."""
        for name, query in self.running.items():
            if not query.is_active:
                self._refuse_failure(name, query)

    def check_topics(self) -> None:
        """Raise StoreError if a topic was recreated.

        If no broker answers, nothing is raised: the queries themselves will fail.
        """
        with suppress(Busy):
            found = topic_metadata.describe_topics(self.config.kafka, client.topics_read(self.config.kafka))
            for topic in topic_ids.recreated_topics(self._store, self.config.kafka, found):
                raise StoreError(topic_ids.explain_recreated(self._store, self.config.kafka, topic))

    def _refuse_failure(self, name: str, query: RunningQuery) -> None:
        error = query.error()
        if error is None or (self.stop_requested.is_set() and isinstance(error, StopRequested)):
            return
        summary = error_summary(error).removeprefix(f"query {name}: ")
        raise StoreError(f"query {name}: {summary}") from error

    def latest_progress(self) -> list[dict[str, Any]]:
        """Return the progress of the newest finished batch of each query, as Spark reports it.

        A query that has not finished a batch is left out.
        """
        newest = (self.progress.latest(name) for name in self.running)
        return [dict(progress) for progress in newest if progress is not None]

    def stop(self, timeout_s: float = 120.0) -> None:
        """Stop every query between two batches, or in the middle of one that still runs after `timeout_s`.

        timeout_s: for all queries together, counted from the call.

        An interrupted batch is repeated at the next start and writes nothing twice. Queries that had ended by
        themselves stay in `running`, so that `check` reports why.
        """
        self.stop_requested.set()
        deadline = time.monotonic() + timeout_s
        ended = {}
        try:
            for name, query in self.running.items():
                # A batch that begins now ends before its first write, by StopRequested.
                while query.is_active and query.is_in_batch and time.monotonic() < deadline:
                    time.sleep(STOP_CHECK_INTERVAL_S)
                if not query.is_active:
                    ended[name] = query
                query.stop()
                self.progress.wait_until_complete(name, LAST_PROGRESS_TIMEOUT_S)
        finally:
            self.running = ended
            self.progress.detach()
            self._maintenance.stop()
            self._tracking.stop()
            self._leases.close()


def run(
    config: Config,
    only: Sequence[str] = (),
    *,
    once: bool = False,
    spark: SparkSession | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Run the queries until SIGTERM or Ctrl-C. once: until they have processed the available data.

    only: names of the queries, all by default. spark: the session of this process by default.

    Raises:
        StoreError: a query has failed, also while it stopped.
        Busy: another process runs one of the queries.
    """
    application = Application(spark or session(config), config, tuple(only))
    with _signals(application.stop_requested):
        try:
            if once:
                application.drain(reporter)
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


def _signals(stop_requested: threading.Event) -> ExitStack:
    """Request a stop at SIGTERM and SIGINT; the returned context restores the previous handlers at its end."""

    def request_stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop_requested.set()

    stack = ExitStack()
    for number in (signal.SIGTERM, signal.SIGINT):
        stack.callback(signal.signal, number, signal.signal(number, request_stop))
    return stack


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the queries as ``streaming/app.py`` and return the exit code. arguments: of the command line by default."""
    parser = argparse.ArgumentParser(prog="streaming/app.py", description=__doc__)
    parser.add_argument("--config", default="fleet.toml", help="the fleet's configuration")
    parser.add_argument(
        "--only", action="append", default=[], choices=QUERY_NAMES, help="this query alone; may be repeated"
    )
    parser.add_argument("--once", action="store_true", help="drain what is there, then exit")
    accept = "this topic was deleted and made again: read the new one from its start; may be repeated"
    parser.add_argument("--accept-topic", action="append", default=[], metavar="TOPIC", help=accept)
    options = parser.parse_args(arguments)
    try:
        config = read_config(options.config)
        store = FleetStore.of(config)
        if (sentence := charter.describe_new_fleet(store)) is not None:
            _write_stderr(sentence)
        for sentence in topic_ids.accept_topics(store, config.kafka, options.accept_topic):
            _write_stderr(sentence)
        # `run` starts Spark, which takes seconds, before it looks.
        topic_metadata.require_topics(config.kafka, client.topics_of(config.kafka))
        run(config, options.only, once=options.once, reporter=TextReporter(_write_stderr))
    except SpinneyError as error:
        _write_stderr(f"spinney: {error}")
        return exit_code(error)
    return 0


def _write_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
