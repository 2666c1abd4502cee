"""The Spark session, and the only place that reaches into Spark's JVM side.

A session on one machine brings its jars and its Java as a `Runtime`. Under ``spark-submit`` both come from
``spark-defaults.conf`` (written by set-up) or from the cluster, and no runtime is given.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from spinney.core.errors import SetupError
from spinney.spark.interrupts import deferred

if TYPE_CHECKING:
    from spinney.core.config import Config

POOL = "spark.scheduler.pool"
NO_DATA_BATCHES = "spark.sql.streaming.noDataMicroBatches.enabled"
PARTITIONS = "spark.sql.shuffle.partitions"  # also the number of state partitions, frozen in each checkpoint
PARALLELISM = "spark.default.parallelism"
DRIVER_JAVA_OPTIONS = "spark.driver.extraJavaOptions"

SHORT_LIVED = {DRIVER_JAVA_OPTIONS: "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=160m"}
"""Options for a session of minutes (a demo, tests): in that time the optimising compiler costs more than it brings."""

STATE = "org.apache.spark.sql.execution.streaming.state"
CHECKPOINTING = "org.apache.spark.sql.execution.streaming.checkpointing"

DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}

EVERYWHERE = {
    **DELTA,
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.catalogImplementation": "in-memory",
    "spark.sql.streaming.stateStore.providerClass": f"{STATE}.RocksDBStateStoreProvider",
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
    # Counting a store's rows reads the key once more at each put, and nothing here asks for the count.
    "spark.sql.streaming.stateStore.rocksdb.trackTotalNumberOfRows": "false",
    NO_DATA_BATCHES: "false",  # an idle query costs nothing; the judge, which ticks, asks for a `session_for` itself
    # A small stage of heavy fits must not be merged into one task: stateful queries never do, stateless ones since 4.1.
    "spark.sql.adaptive.streaming.stateless.enabled": "false",
    # Inferring constraints from the projections of a batch costs planning time at each batch and finds nothing.
    "spark.sql.constraintPropagation.enabled": "false",
    # Code of a whole stage takes longer to compile and runs no faster here: most of a stage is Python and state.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.scheduler.mode": "FAIR",
    # Models must not depend on how many threads the linear algebra has, and workers must not fight for the cores.
    "spark.executorEnv.OMP_NUM_THREADS": "1",
    "spark.executorEnv.OPENBLAS_NUM_THREADS": "1",
    # Spark joins the frames of many groups, and a column without a value (an interval, say) makes pandas warn.
    "spark.executorEnv.PYTHONWARNINGS": "ignore:The behavior of DataFrame concatenation:FutureWarning",
    "spark.databricks.delta.commitStats.collect": "false",
    # Each checkpoint of a table is a pause of seconds; reading 200 small commits again is not.
    "spark.databricks.delta.properties.defaults.checkpointInterval": "200",
    # The four queries have more generated classes than Spark keeps (100): each batch compiled some of them anew, and
    # ran them interpreted until the JVM had compiled them too.
    "spark.sql.codegen.cache.maxEntries": "2000",
}

REQUIRED = {
    # SPARK-52921, on by default since 4.1 (see also SPARK-57996, SPARK-59122): a union whose children are
    # hash-partitioned alike claims their partitioning, the planner drops the repartition above it, adaptive execution
    # coalesces the children to different numbers of partitions, and rows of one key reach different tasks.
    "spark.sql.unionOutputPartitioning": "false",
}
"""Settings without which results are wrong. They hold in every session, also in one that was given to us."""

ON_ONE_MACHINE = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "1280m",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # Not on a cluster: there a worker may start before this package has come to it.
    "spark.python.daemon.module": "spinney.local.python_daemon",
    "spark.databricks.delta.snapshotPartitions": "1",  # the default of 50 costs seconds per commit on two cores
    # Hadoop without its native library asks `chmod`, `readlink` and `ls` about each file: 120 processes a second for
    # four queries, a fifth of a core, and a quarter of a second for each commit of a state. This way of writing a
    # checkpoint asks once a file, and a rename on this machine's own file systems is atomic. A checksum is another file
    # for each; before Spark 4.1 there was none, and RocksDB has its own.
    "spark.sql.streaming.checkpointFileManagerClass": f"{CHECKPOINTING}.FileSystemBasedCheckpointFileManager",
    "spark.sql.streaming.checkpoint.fileChecksum.enabled": "false",
    # Each of the eight stores of four queries would fill buffers of its own, 64 MB and more, outside the heap.
    "spark.sql.streaming.stateStore.rocksdb.boundedMemoryUsage": "true",
    "spark.sql.streaming.stateStore.rocksdb.maxMemoryUsageMB": "256",
}

JAVA_ON_ONE_MACHINE = (
    # A heap of about a gigabyte on few cores: G1's threads took a sixth of a core beside the queries, this one 4 %.
    "-XX:+UseParallelGC",
    # Each value that goes to a Python worker through Arrow was checked to lie within its buffer.
    "-Darrow.enable_unsafe_memory_access=true",
    "-Darrow.enable_null_check_for_get=false",
    # macOS has no such mechanism.
    *(["-Djdk.lang.Process.launchMechanism=VFORK"] if sys.platform == "linux" else []),
)


@dataclass(frozen=True)
class Runtime:
    """What Spark needs from this machine. jars: files for its class path; java_home: with ``bin/java`` inside."""

    jars: tuple[Path, ...]
    java_home: Path


def session(
    config: Config | None = None,
    *,
    runtime: Runtime | None = None,
    cores: int | None = None,
    options: Mapping[str, str] | None = None,
) -> SparkSession:
    """The session of this process, made when there is none yet.

    config: its ``[spark]`` table overrides what is set here. runtime: Spark in this process on `cores` cores
    (all by default); without it master, jars, Java and all else given to ``spark-submit`` hold. options: override even
    ``[spark]``.

    Raises:
        SetupError: Spark's JVM does not start, or a setting contradicts REQUIRED.
    """
    _refuse_contradictions({**(config.spark if config else {}), **(options or {})})
    settings = dict(EVERYWHERE)
    if runtime:
        settings |= _on_one_machine(runtime, cores or _cores_here())
        os.environ["JAVA_HOME"] = str(runtime.java_home)
        os.environ["PYSPARK_PYTHON"] = sys.executable
    else:
        settings |= _given_to_submit()
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    asked = {**(config.spark if config else {}), **(options or {})}
    if "spark.master" in asked:
        settings.pop(PARALLELISM, None)  # it says how many cores there are
    settings |= _overrides(settings, asked) | REQUIRED
    builder = SparkSession.builder.appName(config.fleet.name if config else "spinney")
    for key, value in settings.items():
        builder = builder.config(key, value)
    try:
        _start_jvm(settings)
        spark = builder.getOrCreate()
    except Exception as error:
        raise _did_not_start(error, runtime) from error
    if spark.sparkContext.getConf().get(PARTITIONS) is None:  # Spark's own default is 200
        spark.conf.set(PARTITIONS, str(cores_of(spark)))
    return with_required(spark)


def _start_jvm(settings: Mapping[str, str]) -> None:
    """Start the JVM unless there is one.

    PySpark removes the folder in which the JVM is to say its port as soon as it is interrupted; the JVM then fails to
    write there before it looks whether its parent has gone, and stays for ever. So a Ctrl-C waits until it has started.
    """
    conf = SparkConf()
    for key, value in settings.items():
        conf.set(key, value)
    with deferred():
        SparkContext._ensure_initialized(conf=conf)


def with_required(spark: SparkSession) -> SparkSession:
    """The session with REQUIRED in effect, whoever made it: `spark-submit`, a notebook, a test."""
    for key, value in REQUIRED.items():
        spark.conf.set(key, value)
    return spark


_COLLECTOR = re.compile(r"-XX:\+Use\w+GC")
_OF_JAVA = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
"""Variables whose options the JVM reads by itself."""

Start = Callable[[], SparkSession]
"""Starts Spark, or gives the session that there is. Asked for only where Spark is needed."""


class OnDemand:
    """Starts Spark once, when it is first called, and returns its session from then on."""

    def __init__(self, config: Config, spark: SparkSession | Start | None) -> None:
        """spark: a session, what starts one, or None for that of this process."""
        self._config = config
        self._spark = spark
        self._session: SparkSession | None = None
        self._ahead: Future[SparkSession] | None = None

    @property
    def is_started(self) -> bool:
        """Whether Spark runs, or is starting."""
        return isinstance(self._spark, SparkSession) or self._session is not None or self._ahead is not None

    def __call__(self) -> SparkSession:
        if self._session is None:
            self._session = self._start() if self._ahead is None else self._ahead.result()
        return self._session

    def start_ahead(self) -> None:
        """Start Spark and its Python workers at once, beside what the caller goes on with.

        A call waits for the session, and raises what starting it raises. The workers import for seconds; nobody waits
        for them, and what is wrong with them the first real task says.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="spark-start")
        started = self._ahead = thread.submit(self._start)
        thread.submit(lambda: _worked_once(started.result()))

    def _start(self) -> SparkSession:
        if self._spark is None:
            return session(self._config)
        return with_required(self._spark if isinstance(self._spark, SparkSession) else self._spark())


def is_started(spark: SparkSession | Start) -> bool:
    """Whether asking for the session costs nothing any more; of a plain function nobody knows."""
    return isinstance(spark, SparkSession) or (isinstance(spark, OnDemand) and spark.is_started)


def _worked_once(spark: SparkSession) -> None:
    """Each core runs a task in a Python worker."""
    cores = cores_of(spark)
    spark.range(0, cores, 1, cores).mapInArrow(lambda batches: batches, "id bigint").toArrow()


def _refuse_contradictions(asked: Mapping[str, str]) -> None:
    for key, value in REQUIRED.items():
        if str(asked.get(key, value)).lower() != value:
            raise SetupError(
                f"[spark] {key}: expected {value}; got {asked[key]}. With it Spark may send the rows of one group to "
                "different tasks; remove the key"
            )


def session_for(spark: SparkSession, *, no_data_batches: bool) -> SparkSession:
    """A sibling of `spark` for one query: same tables and cores, its own settings.

    no_data_batches: run batches without new data too, as timers need. Set when the query starts, kept by it for ever.
    """
    sibling = spark.newSession()
    sibling.conf.set(PARTITIONS, str(spark.conf.get(PARTITIONS)))
    sibling.conf.set(NO_DATA_BATCHES, str(no_data_batches).lower())
    return with_required(sibling)


@contextmanager
def in_pool(spark: SparkSession, pool: str) -> Iterator[None]:
    """What this thread starts inside gets its fair share of the cores as `pool`; queries started here keep it."""
    context = spark.sparkContext
    before = context.getLocalProperty(POOL)
    context.setLocalProperty(POOL, pool)
    try:
        yield
    finally:
        context.setLocalProperty(POOL, before)  # type: ignore[arg-type]  # None takes it away


def cores_of(spark: SparkSession) -> int:
    """How many tasks run at once: the number to give to ``repartition``."""
    return int(spark.sparkContext.defaultParallelism)


def is_on_one_machine(spark: SparkSession) -> bool:
    """Whether the tasks run in this process."""
    return str(spark.sparkContext.master).startswith("local")


def packaged(name: str) -> Path:
    """A file of Spark settings shipped beside this module."""
    return Path(str(resources.files("spinney.spark").joinpath(name)))


def logging_option() -> str:
    return f"-Dlog4j2.configurationFile={packaged('log4j2.properties').as_uri()}"


def _cores_here() -> int:
    """The cores this process may use; macOS knows only those that there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _given_to_submit() -> dict[str, str]:
    """What ``spark-submit`` was told: by flags, by spark-defaults.conf, by the cluster."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return {}
    SparkContext._ensure_initialized()  # the only way to read it before there is a session
    return dict(SparkConf().getAll())


def _on_one_machine(runtime: Runtime, cores: int) -> dict[str, str]:
    return {
        **ON_ONE_MACHINE,
        # Tasks wait for Kafka, for files and for Python workers: one more than there are cores keeps these busy.
        "spark.master": f"local[{cores + 1}]",
        PARALLELISM: str(cores),
        "spark.jars": ",".join(map(str, runtime.jars)),
        PARTITIONS: str(cores),
        "spark.scheduler.allocation.file": str(packaged("pools.xml")),
        DRIVER_JAVA_OPTIONS: " ".join([logging_option(), *JAVA_ON_ONE_MACHINE]),
    }


def _overrides(settings: Mapping[str, str], asked: Mapping[str, str]) -> dict[str, str]:
    """The user's settings; Java options are added to ours, since two options of one name can stand side by side.

    But for the collector: a JVM that is told two of them does not start.
    """
    ours, theirs = settings.get(DRIVER_JAVA_OPTIONS), asked.get(DRIVER_JAVA_OPTIONS, "")
    if not ours:
        return dict(asked)
    elsewhere = [asked.get("spark.driver.defaultJavaOptions", ""), *(os.environ.get(name, "") for name in _OF_JAVA)]
    if any(_COLLECTOR.fullmatch(option) for text in (theirs, *elsewhere) for option in text.split()):
        ours = " ".join(option for option in ours.split() if not _COLLECTOR.fullmatch(option))
    return {**asked, DRIVER_JAVA_OPTIONS: f"{ours} {theirs}".strip()}


def _did_not_start(error: Exception, runtime: Runtime | None) -> SetupError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    java = f"the Java at {runtime.java_home}" if runtime else "the Java of spark-submit"
    return SetupError(
        f"Spark did not start with {java}: {first}. The lines above this one are Spark's own; "
        "run `spinney check` to see whether Java, jars and memory are as they should be"
    )
