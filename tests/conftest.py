"""A test's folder is its tier: the marker comes from the path, and a test outside every tier is refused."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

TIERS = ("pure", "files", "process", "spark", "scale", "kafka", "e2e")
ORDER = ("e2e", "kafka", "scale", "spark", "process", "files", "pure")
"""The files that take minutes come first, while there are others beside which they can wait for a JVM; those that take
a second come last, so that all processes end at the same time.
"""

HERE = Path(__file__).parent
FIRST = HERE / "process" / "workers"
"""First of its tier: its tests fork, which takes 1.6 times the CPU time once the process has run the others."""

SERVER_THREADS = frozenset({"champions", "figures", "tidying", "tracking"})
GIVEN_BROKER = "SPINNEY_TEST_KAFKA"

# No example fails for being slow: how long one takes says more of the machine than of the code. `make test` tries the
# same examples at each run, so that its result is that of the code; `make search` looks for new ones, and many more.
settings.register_profile(
    "repeatable", max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
KEPT = DirectoryBasedExampleDatabase(HERE.parent / ".hypothesis" / "examples")  # tried first by the next search
settings.register_profile(
    "search", settings.get_profile("repeatable"), max_examples=1_000, derandomize=False, database=KEPT
)
settings.load_profile("repeatable")

# Far from UTC, with a summer time: a time that is read in the zone of its process is off by hours in every test.
os.environ["TZ"] = "America/New_York"
time.tzset()

# Several processes of tests share the cores: a thread of OpenMP that spins while it waits keeps another from working.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A JVM of Spark lives for seconds here, most of them for its start: the optimising compiler costs more than it brings,
# and so does verifying the classes of jars whose hashes are locked.
os.environ["SPARK_SUBMIT_OPTS"] = (
    "-XX:TieredStopAtLevel=1 -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    if config.getoption("dist") != "loadfile":
        return None
    from tier_scheduling import TierScheduling

    return TierScheduling(config, log)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None) and not os.environ.get(GIVEN_BROKER):
        from run_broker import RunBroker

        config.pluginmanager.register(RunBroker())


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without the garbage collector, which takes a fifth of the time, and let it ignore what was made: modules
    and tests live as long as the run.

    During the tests it runs once in 20,000 new objects. By Python's own threshold of 700 it took an eighth of the CPU
    time of the tests of tables.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        gc.set_threshold(20_000, 20, 20)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tier = item.path.relative_to(HERE).parts[0]
        if tier not in TIERS:
            text = f"{item.nodeid}: a test lives in tests/{{{','.join(TIERS)}}}/; move it into its tier"
            raise pytest.UsageError(text)
        item.add_marker(tier)
    items.sort(key=_place)


def _place(item: pytest.Item) -> tuple[int, bool]:
    tier = item.path.relative_to(HERE).parts[0]
    return ORDER.index(tier), not item.path.is_relative_to(FIRST)


@pytest.fixture(scope="module", autouse=True)
def _no_thread_of_a_server_stays() -> Iterator[None]:
    """A thread that still polls tables changes what later tests of its process count, now and then."""
    yield
    left = sorted(thread.name for thread in threading.enumerate() if thread.name in SERVER_THREADS)
    assert not left, f"threads: expected those of servers to end with their tests; got {', '.join(left)} still running"


@pytest.fixture(scope="session")
def spark():
    """The one Spark session of the run. Its JVM fails the test when it does not start: nothing is skipped."""
    from spinney.local.java_and_jars import runtime
    from spinney.spark.session import SHORT_LIVED, session

    made = session(runtime=runtime(), options=SHORT_LIVED)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def broker(request, tmp_path_factory):
    """The bootstrap servers of the run's one Kafka broker: ``SPINNEY_TEST_KAFKA``, else an embedded one."""
    given = os.environ.get(GIVEN_BROKER)
    if given:
        yield given
        return
    run_input = getattr(request.config, "workerinput", {})
    if "broker_file" in run_input:
        from run_broker import read_address

        yield read_address(Path(run_input["broker_file"]))
        return
    from spinney.local.broker import Broker

    with Broker(tmp_path_factory.mktemp("kafka")) as made:
        yield made.bootstrap_servers
