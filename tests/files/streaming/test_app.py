"""How the queries begin and end together. They are stand-ins: what Spark does is under test in the other tiers."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from handwritten_history import fleet_toml
from new_tables import create_tables

from schemas import tables
from spinney import tracking
from spinney.core.config import Config, Retention, parse
from spinney.core.errors import Busy, SetupError, StoreError
from spinney.kafka import topic_ids, topic_metadata
from spinney.kafka.topic_metadata import Topic, TopicExtent
from spinney.operations import maintenance
from spinney.storage import checkpoints, leases
from spinney.storage.layout import Directory, FleetStore
from spinney.storage.retrain_requests import RetrainRequest, add_request, read_requests, remove_requests
from spinney.tables import delta
from streaming import app
from streaming.app import Application, run
from streaming.progress import ProgressListener
from streaming.query import StopRequested
from streaming.query_counters import QueryCounters

OFF = '[tracking]\nmode = "off"'
STOPPED = StopRequested()


@dataclass
class Running:
    """Stands in for a `RunningQuery`. ends: called when a drain waits for it."""

    active: bool = True
    failure: Exception | None = None
    checks: int = 0
    ends: Callable[[], None] = lambda: None
    is_in_batch: bool = False
    progress: ProgressListener = field(default_factory=ProgressListener)
    run_id: UUID = field(default_factory=uuid4)

    def begin(self, name: str, progress: ProgressListener) -> None:
        self.progress = progress
        progress.onQueryStarted(SimpleNamespace(runId=self.run_id, name=name))  # type: ignore[arg-type]

    @property
    def is_active(self) -> bool:
        self.checks += 1
        return self.active

    def error(self) -> Exception | None:
        return self.failure

    def fail(self, error: Exception) -> None:
        self.active, self.failure = False, error

    def wait(self) -> None:
        self.ends()
        self.stop()

    def stop(self) -> None:
        self.active = False
        self.progress.onQueryTerminated(SimpleNamespace(runId=self.run_id))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Ready:
    """A query before it runs; one without `running` cannot be started."""

    name: str
    running: Running | None
    trigger: str = "1 second"
    write_lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, config: Config, stop_requested: Any, progress: ProgressListener, *, once: bool) -> Running:
        if self.running is None:
            raise SetupError("no signing key")
        self.running.begin(self.name, progress)
        return self.running


Queries = dict[str, Running | None]


@pytest.fixture
def config(tmp_path) -> Config:
    return parse(fleet_toml(tmp_path, kafka='outcomes = "till"', more=OFF), "fleet.toml", {})


@pytest.fixture
def queries(monkeypatch) -> Queries:
    """The queries that will be started, by name."""
    made: Queries = {}
    monkeypatch.setattr(
        topic_metadata,
        "require_topics",
        lambda config, names: {name: Topic(name, f"id of {name}", 1, frozenset()) for name in names},
    )
    monkeypatch.setattr(Application, "_query", lambda self, name, once: Ready(name, made[name]))
    return made


@dataclass
class Told:
    """Who is told, and what."""

    events: list[Any] = field(default_factory=list)

    def ready(self, names: Any) -> None:
        self.events.append(("ready", tuple(names)))

    def nothing_to_do(self) -> None:
        self.events.append("nothing to do")

    def progress(self, batches: Any) -> None:
        self.events.append("progress")

    def report(self, reports: Any) -> None:
        self.events.append([report.query for report in reports])


def are_free(config: Config, *names: str) -> bool:
    with leases.held(FleetStore.of(config), names):
        return True


def go(config: Config, queries: Queries, *, once: bool = False) -> None:
    run(config, list(queries), once=once, spark=object())  # type: ignore[arg-type]


def test_a_start_that_fails_ends_what_was_started_and_gives_the_leases_back(config, queries) -> None:
    queries |= {"ingest": Running(), "score": None}
    with pytest.raises(SetupError, match="no signing key"):
        go(config, queries)
    assert not queries["ingest"].active
    assert are_free(config, "ingest", "score")


def test_a_stop_gives_the_leases_back_only_after_the_directory_that_is_being_tidied(
    config, queries, monkeypatch
) -> None:
    queries |= {"ingest": Running()}
    began, may_end, tidied = threading.Event(), threading.Event(), []

    def carry_out(
        store: FleetStore, retention: Retention, directory: Directory, now: datetime, guard: object, opened: object
    ) -> None:
        began.set()
        assert may_end.wait(60)
        tidied.append(directory.name)

    monkeypatch.setattr(maintenance, "tidy_directory", carry_out)
    application = Application(object(), config, ("ingest",))  # type: ignore[arg-type]
    application.start()
    maintenance.request_tidy(FleetStore.of(config))
    assert began.wait(60)
    stop = threading.Thread(target=application.stop)
    stop.start()
    stop.join(0.3)
    with pytest.raises(Busy):
        are_free(config, "ingest")
    may_end.set()
    stop.join()
    assert are_free(config, "ingest")
    assert tidied == ["events"]


@pytest.mark.parametrize(
    ("second", "error", "says"),
    [
        (None, SetupError, "no signing key"),
        (Running(failure=RuntimeError("disk full")), StoreError, "query score: disk full"),
    ],
)
def test_a_drain_that_fails_gives_the_leases_back(config, queries, second, error, says) -> None:
    queries |= {"ingest": Running(), "score": second}
    with pytest.raises(error, match=says):
        go(config, queries, once=True)
    assert are_free(config, "ingest", "score")


def test_a_drain_has_given_the_leases_back_when_it_reports_mlflow_and_a_stop_ends_that_too(
    config, queries, monkeypatch
) -> None:
    queries |= {"ingest": Running(), "retrain": Running()}
    heard = []

    def deliver_now(config: Config, asked: threading.Event, *, ends_stream: bool) -> None:
        assert ends_stream
        assert are_free(config, "ingest", "retrain"), "the next drain may begin"
        signal.raise_signal(signal.SIGTERM)
        heard.append(asked.is_set())

    monkeypatch.setattr(tracking, "deliver_now", deliver_now)
    go(config, queries, once=True)
    assert heard == [True]


def _ask(store: FleetStore, *group_keys: str) -> list[str]:
    now = datetime(2024, 5, 1, tzinfo=UTC)
    return [add_request(store, RetrainRequest.new(key, "ada", "why", now)).id for key in group_keys]


def test_a_drain_goes_on_until_no_request_that_waited_is_left_and_leaves_those_that_came_meanwhile(
    config, queries
) -> None:
    store = FleetStore.of(config)
    checkpoints.write_query_id(store.checkpoint("retrain"), "c1")
    waited = _ask(store, '["a","1"]', '["b","1"]')
    taken = [[], waited[:1], waited[1:]]  # at first there is nothing new, and Spark begins no batch

    def end_batch() -> None:
        remove_requests(store, taken.pop(0))
        if not taken:
            _ask(store, '["c","1"]')

    queries |= {"retrain": Running(ends=end_batch)}
    go(config, queries, once=True)
    assert taken == []
    assert [request.group_key for request in read_requests(store)] == ['["c","1"]']


@pytest.mark.parametrize("names", [("ingest", "retrain"), ("ingest",)])
def test_a_restarted_stream_begins_with_a_batch_of_retrain_though_nothing_is_new(config, queries, names) -> None:
    store = FleetStore.of(config)
    create_tables(store)
    version = partial(delta.current_version, store.directory(tables.MODELS, "stream"))
    queries |= {name: Running() for name in names}
    for begun in (False, True):
        before = version()
        application = Application(object(), config, names)  # type: ignore[arg-type]
        application.start()
        application.stop()
        assert version() - before == int(begun and "retrain" in names)
        checkpoints.write_query_id(store.checkpoint("retrain"), "c1")


def test_a_drain_ends_with_a_round_that_takes_no_request(config, queries) -> None:
    store = FleetStore.of(config)
    (waiting,) = _ask(store, '["a","1"]')
    ended = []
    queries |= {"retrain": Running(ends=lambda: ended.append(1))}
    go(config, queries, once=True)
    assert len(ended) == 2, "what is new, and the request"
    assert [request.id for request in read_requests(store)] == [waiting]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_drain_that_is_asked_to_stop_ends_between_two_batches_without_an_error(config, queries, number) -> None:
    score = Running()

    def asked() -> None:
        signal.raise_signal(number)
        queries["ingest"].failure = STOPPED  # what its next batch ends with

    queries |= {"ingest": Running(ends=asked), "score": score}
    before = signal.getsignal(number)
    go(config, queries, once=True)
    assert score.active, "it was begun all the same"
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("error", [STOPPED, RuntimeError("StopRequested: the disk is full")])
def test_a_query_that_ends_unasked_is_a_failure_whatever_it_says(config, queries, error: Exception) -> None:
    ingest = Running()
    queries |= {"ingest": ingest}
    ingest.fail(error)
    with pytest.raises(StoreError, match=r"query ingest: StopRequested"):
        go(config, queries)
    assert are_free(config, "ingest")


@pytest.mark.parametrize(
    ("error", "is_told"), [(STOPPED, False), (RuntimeError("StopRequested: the disk is full"), True)]
)
def test_a_query_that_fails_while_it_stops_is_reported(
    config, queries, monkeypatch, error: Exception, is_told: bool
) -> None:
    ingest, score = Running(), Running()
    queries |= {"ingest": ingest, "score": score}

    def asked(self, *_: Any) -> None:
        self.stop_requested.set()
        ingest.fail(error)

    monkeypatch.setattr(Application, "watch", asked)
    if is_told:
        with pytest.raises(StoreError, match="query ingest: StopRequested: the disk is full"):
            go(config, queries)
    else:
        go(config, queries)
    assert not score.active
    assert are_free(config, "ingest", "score")


def test_a_batch_that_is_cut_off_when_patience_ends_is_no_failure(config, queries) -> None:
    """It is replayed at the next start."""
    ingest = Running(is_in_batch=True)
    application = Application(object(), config, ("ingest",), running={"ingest": ingest})  # type: ignore[arg-type]
    ingest.stop = lambda: ingest.fail(RuntimeError("interrupted"))  # type: ignore[method-assign]
    application.stop(timeout_s=0)
    application.check()


def test_the_queries_are_looked_at_once_a_second_and_a_stop_is_heard_at_once(config) -> None:
    waits: list[float] = []

    class Stop:
        """An event that is set at the fourth look."""

        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            return len(waits) == 4

    ingest = Running()
    application = Application(object(), config, ("ingest",), stop_requested=Stop(), running={"ingest": ingest})  # type: ignore[arg-type]
    application.watch()
    assert waits == [1.0] * 4  # an event's wait ends when it is set, not after the second
    assert ingest.checks == 3


def test_a_running_stream_stops_when_a_topic_is_made_again_and_not_when_no_broker_answers(
    config, queries, monkeypatch
) -> None:
    queries |= {"ingest": Running()}
    answers: list[Any] = [Busy("no broker"), {"sales": Topic("sales", "another", 1, frozenset())}]

    def described(config: Config, names: object) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Busy):
            raise answer
        return answer

    monkeypatch.setattr(app, "TOPIC_CHECK_INTERVAL_S", 0.0)
    monkeypatch.setattr(app, "CHECK_INTERVAL_S", 0.0)
    monkeypatch.setattr(topic_metadata, "describe_topics", described)
    monkeypatch.setattr(topic_ids, "topic_extent", lambda config, topic: TopicExtent({"0": 0}, {"0": 3}))
    monkeypatch.setattr(checkpoints, "kafka_end_offsets", lambda location, topic: {"0": 9})
    with pytest.raises(StoreError, match=r"topic sales .*id of sales; ingest up to offset 9.*another.*with 3 records"):
        go(config, queries)
    assert answers == []
    assert not queries["ingest"].active


def test_labels_alone_are_refused_where_they_are_inside_the_events(tmp_path) -> None:
    inside = parse(fleet_toml(tmp_path, more=OFF), "fleet.toml", {})
    with pytest.raises(StoreError, match=r"--only labels: expected a fleet with late labels .kafka.outcomes."):
        Application(object(), inside, ("labels",))  # type: ignore[arg-type]
    assert Application(object(), inside, ("score", "labels")).names == ("score",)  # type: ignore[arg-type]


def test_a_drain_reports_what_every_query_did_at_its_end(config, queries) -> None:
    queries |= {"ingest": Running(), "score": Running()}
    reported = Told()
    run(config, list(queries), once=True, spark=object(), reporter=reported)  # type: ignore[arg-type]
    assert reported.events == [("ready", ("ingest", "score")), ["ingest", "score"]]


def test_a_stream_reports_that_it_is_ready_and_at_its_end_what_its_queries_did(config, queries, monkeypatch) -> None:
    queries |= {"ingest": Running(), "score": Running()}
    reported = Told()
    monkeypatch.setattr(Application, "watch", lambda self, reporter: None)
    run(config, list(queries), spark=object(), reporter=reported)  # type: ignore[arg-type]
    assert reported.events == [("ready", ("ingest", "score")), []]


def test_a_report_that_fails_hides_no_error_and_stops_no_stream(config, queries, monkeypatch, caplog) -> None:
    queries |= {"ingest": Running(failure=RuntimeError("no disk"), active=False)}
    monkeypatch.setattr(QueryCounters, "reports", lambda self: 1 / 0)
    with pytest.raises(StoreError, match="query ingest: no disk"):
        run(config, list(queries), once=True, spark=object(), reporter=Told())  # type: ignore[arg-type]
    assert "what the queries did cannot be reported" in caplog.text
