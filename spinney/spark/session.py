"""The Spark session, and the only place that reaches into Spark's JVM side.

A session on one machine brings its jars and its Java as a `Runtime`. Under ``spark-submit`` both come from
``spark-defaults.conf`` (written by set-up) or from the cluster, and no runtime is given.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession
from pyspark.sql.streaming.listener import StreamingQueryListener

from spinney.core.errors import SetupError
from spinney.spark.class_archive_options import ClassArchiveOptions, spark_conf_folder
from spinney.spark.deferred_interrupt import defer_interrupt
from spinney.spark.query_events import JsonQueryListener

if TYPE_CHECKING:
    from spinney.core.config import Config

POOL = "spark.scheduler.pool"
NO_DATA_BATCHES = "spark.sql.streaming.noDataMicroBatches.enabled"
PARTITIONS = "spark.sql.shuffle.partitions"  # also the number of state partitions, frozen in each checkpoint
PARALLELISM = "spark.default.parallelism"
DRIVER_JAVA_OPTIONS = "spark.driver.extraJavaOptions"
DRIVER_CLASS_PATH = "spark.driver.extraClassPath"

SHORT_LIVED = {DRIVER_JAVA_OPTIONS: "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=160m"}
"""Options for a session of minutes (a demo, tests), which ends before the optimising compiler has paid off."""

_STATE_PACKAGE = "org.apache.spark.sql.execution.streaming.state"
_CHECKPOINT_PACKAGE = "org.apache.spark.sql.execution.streaming.checkpointing"

DELTA_SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}

COMMON_SETTINGS = {
    **DELTA_SETTINGS,
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.catalogImplementation": "in-memory",
    "spark.sql.streaming.stateStore.providerClass": f"{_STATE_PACKAGE}.RocksDBStateStoreProvider",
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
    # Counting a store's rows reads the key once more at each put, and nothing here asks for the count.
    "spark.sql.streaming.stateStore.rocksdb.trackTotalNumberOfRows": "false",
    NO_DATA_BATCHES: "false",  # an idle query costs nothing; `retrain`, which needs timers, has a `sibling_session`
    # A small stage of heavy fits must not be merged into one task, as stateless queries do since 4.1.
    "spark.sql.adaptive.streaming.stateless.enabled": "false",
    # Inferring constraints costs planning time in each batch and finds nothing.
    "spark.sql.constraintPropagation.enabled": "false",
    # Code of a whole stage takes longer to compile and is no faster: most of a stage's time is Python and state.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.scheduler.mode": "FAIR",
    # Models must not depend on the number of threads of linear algebra, and workers must not compete for the cores.
    "spark.executorEnv.OMP_NUM_THREADS": "1",
    "spark.executorEnv.OPENBLAS_NUM_THREADS": "1",
    # Spark concatenates the frames of many groups, and pandas warns about a column without a value.
    "spark.executorEnv.PYTHONWARNINGS": "ignore:The behavior of DataFrame concatenation:FutureWarning",
    "spark.databricks.delta.commitStats.collect": "false",
    # A checkpoint of a table takes seconds; reading 200 small commits does not.
    "spark.databricks.delta.properties.defaults.checkpointInterval": "200",
    # The four queries have more generated classes than Spark caches by default (100), and each batch compiled some of
    # them again.
    "spark.sql.codegen.cache.maxEntries": "2000",
}

REQUIRED_SETTINGS = {
    # SPARK-52921, on by default since 4.1 (see also SPARK-57996, SPARK-59122): a union whose children are
    # hash-partitioned alike claims their partitioning, the planner drops the repartition above it, adaptive execution
    # coalesces the children to different numbers of partitions, and rows of one key reach different tasks.
    "spark.sql.unionOutputPartitioning": "false",
}
"""Settings without which results are wrong. They are set in every session, whoever made it."""

LOCAL_SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "1024m",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # Not on a cluster, where a worker may start before this package was sent to it.
    "spark.python.daemon.module": "spinney.local.python_daemon",
    "spark.databricks.delta.snapshotPartitions": "1",  # the default of 50 costs seconds per commit on two cores
    # Hadoop without its native library runs the programs `chmod`, `readlink` and `ls` for each file. For four queries
    # that is 120 processes a second, a fifth of a core, and a quarter of a second per commit of a state. This
    # checkpoint writer runs one program per file; renames on a local file system are atomic. Checksums would double the
    # number of files; RocksDB has its own, and Spark before 4.1 had none.
    "spark.sql.streaming.checkpointFileManagerClass": f"{_CHECKPOINT_PACKAGE}.FileSystemBasedCheckpointFileManager",
    "spark.sql.streaming.checkpoint.fileChecksum.enabled": "false",
    # Otherwise each of the eight stores of four queries fills its own buffers of 64 MB and more, outside the heap.
    "spark.sql.streaming.stateStore.rocksdb.boundedMemoryUsage": "true",
    "spark.sql.streaming.stateStore.rocksdb.maxMemoryUsageMB": "256",
    # Spark keeps plans and figures for its web page, although that is off: of 380 executions after ten minutes, and of
    # up to 1,000.
    "spark.ui.retainedJobs": "50",
    "spark.ui.retainedStages": "50",
    "spark.ui.retainedTasks": "500",
    "spark.sql.ui.retainedExecutions": "20",
    # Arrow's own allocator (mimalloc) keeps what was freed: 140 MB in each worker after 5 minutes, 200 after 10.
    "spark.executorEnv.ARROW_DEFAULT_MEMORY_POOL": "system",
}

LOCAL_ENVIRONMENT = {
    # glibc gives each thread a heap of its own, up to eight per core. The JVM has 300 threads, and what RocksDB and the
    # compilers free stays in twenty heaps: 180 MB after 10 minutes, and growing.
    "MALLOC_ARENA_MAX": "2",
}
"""Environment variables that are set for the JVM and its Python workers, unless the caller has set them."""

LOCAL_JAVA_OPTIONS = (
    # For a heap of a gigabyte on few cores: the threads of G1 took a sixth of a core, those of this collector 4 %.
    "-XX:+UseParallelGC",
    # Give freed memory outside the heap back to the system, once a minute. Unknown to Java before 17.0.9 and 21.0.1.
    "-XX:+IgnoreUnrecognizedVMOptions",
    "-XX:TrimNativeHeapInterval=60000",
    # Do not check that each value sent to a Python worker lies within its Arrow buffer.
    "-Darrow.enable_unsafe_memory_access=true",
    "-Darrow.enable_null_check_for_get=false",
    # macOS does not support it.
    *(["-Djdk.lang.Process.launchMechanism=VFORK"] if sys.platform == "linux" else []),
)


@dataclass(frozen=True)
class Runtime:
    """Spark's jars and Java on this machine. jars: files for the class path; java_home: contains ``bin/java``."""

    jars: tuple[Path, ...]
    java_home: Path
    class_archive: ClassArchiveOptions | None = None


def session(
    config: Config | None = None,
    *,
    runtime: Runtime | None = None,
    cores: int | None = None,
    options: Mapping[str, str] | None = None,
) -> SparkSession:
    """Return the session of this process; start it if there is none.

    config: its ``[spark]`` table overrides the settings of this module. runtime: if given, Spark runs in this process,
    on `cores` cores (by default all). Without it, master, jars, Java and the other options come from ``spark-submit``.
    options: override ``[spark]``.

    Raises:
        SetupError: Spark's JVM does not start, or a setting contradicts REQUIRED_SETTINGS.
    """
    _check_required_settings({**(config.spark if config else {}), **(options or {})})
    settings = dict(COMMON_SETTINGS)
    if runtime:
        settings |= _local_settings(runtime, cores or _available_cores())
        os.environ["JAVA_HOME"] = str(runtime.java_home)
        os.environ["PYSPARK_PYTHON"] = sys.executable
        _add_defaults(os.environ, LOCAL_ENVIRONMENT)
    else:
        settings |= _submitted_settings()
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    requested = {**(config.spark if config else {}), **(options or {})}
    if "spark.master" in requested:
        settings.pop(PARALLELISM, None)  # it says how many cores there are
    settings |= _with_user_settings(settings, requested) | REQUIRED_SETTINGS
    builder = SparkSession.builder.appName(config.fleet.name if config else "spinney")
    for key, value in settings.items():
        builder = builder.config(key, value)
    try:
        _start_jvm(settings, runtime.class_archive if runtime else None)
        spark = builder.getOrCreate()
    except Exception as error:
        raise _start_error(error, runtime) from error
    if spark.sparkContext.getConf().get(PARTITIONS) is None:  # Spark's own default is 200
        spark.conf.set(PARTITIONS, str(cores_of(spark)))
    return apply_required_settings(spark)


def _add_defaults(environment: MutableMapping[str, str], defaults: Mapping[str, str]) -> None:
    """Set the variables that the environment does not have yet."""
    for name, value in defaults.items():
        environment.setdefault(name, value)


def _start_jvm(settings: Mapping[str, str], class_archive: ClassArchiveOptions | None) -> None:
    """Start the JVM if it does not run. A Ctrl-C is deferred until it has started.

    If the start is interrupted, PySpark removes the folder into which the JVM is to write its port. The JVM fails to
    write, before it checks whether its parent still runs, and never ends.
    """
    conf = SparkConf()
    for key, value in settings.items():
        conf.set(key, value)
    with defer_interrupt(), spark_conf_folder(class_archive):
        SparkContext._ensure_initialized(conf=conf)


def end_jvm(spark: SparkSession, timeout_s: float) -> None:
    """Stop the session and wait until the JVM that this process started for it has ended.

    Raises:
        subprocess.TimeoutExpired: it has not ended within `timeout_s`.
    """
    assert SparkContext._gateway is not None, "a session has started"
    process = SparkContext._gateway.proc
    spark.stop()
    process.stdin.close()
    process.wait(timeout_s)


def apply_required_settings(spark: SparkSession) -> SparkSession:
    """Put REQUIRED_SETTINGS into effect in a session of any origin, and return it."""
    for key, value in REQUIRED_SETTINGS.items():
        spark.conf.set(key, value)
    return spark


_GC_OPTION = re.compile(r"-XX:\+Use\w+GC")
_JAVA_OPTION_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
"""Environment variables whose options the JVM reads itself."""

SessionFactory = Callable[[], SparkSession]
"""Starts Spark, or returns the session if it runs. Called only if Spark is needed."""


class LazySession:
    """A `SessionFactory` that starts Spark at its first call and returns the same session from then on."""

    def __init__(self, config: Config, spark: SparkSession | SessionFactory | None) -> None:
        """Keep what starts Spark: a session, a function that starts one, or None for this process's session."""
        self._config = config
        self._spark = spark
        self._session: SparkSession | None = None
        self._starting: Future[SparkSession] | None = None

    @property
    def is_started(self) -> bool:
        """Whether Spark runs or is starting."""
        return isinstance(self._spark, SparkSession) or self._session is not None or self._starting is not None

    def __call__(self) -> SparkSession:
        """Return the session; start Spark at the first call."""
        if self._session is None:
            self._session = self._start() if self._starting is None else self._starting.result()
        return self._session

    def start_in_background(self) -> None:
        """Start Spark and its Python workers in a thread.

        A later call waits for the session and raises what starting it raised. Nobody waits for the workers, whose
        imports take seconds: an error in them appears in the first real task.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="spark-start")
        started = self._starting = thread.submit(self._start)
        thread.submit(lambda: _warm_up_workers(started.result()))

    def _start(self) -> SparkSession:
        if self._spark is None:
            return session(self._config)
        return apply_required_settings(self._spark if isinstance(self._spark, SparkSession) else self._spark())


def is_started(spark: SparkSession | SessionFactory) -> bool:
    """Whether the session exists or is starting; False for a plain function, for which this is unknown."""
    return isinstance(spark, SparkSession) or (isinstance(spark, LazySession) and spark.is_started)


def _warm_up_workers(spark: SparkSession) -> None:
    """Run one task per core in a Python worker."""
    cores = cores_of(spark)
    spark.range(0, cores, 1, cores).mapInArrow(lambda batches: batches, "id bigint").toArrow()


def _check_required_settings(requested: Mapping[str, str]) -> None:
    for key, value in REQUIRED_SETTINGS.items():
        if str(requested.get(key, value)).lower() != value:
            raise SetupError(
                f"[spark] {key}: expected {value}; got {requested[key]}. With it Spark may send the rows of one group "
                "to different tasks; remove the key"
            )


def sibling_session(spark: SparkSession, *, no_data_batches: bool) -> SparkSession:
    """Return a session for one query, with the catalog and cores of `spark` and its own settings.

    no_data_batches: run batches without new data too, which timers need. A query keeps the setting it started with.
    """
    sibling = spark.newSession()
    sibling.conf.set(PARTITIONS, str(spark.conf.get(PARTITIONS)))
    sibling.conf.set(NO_DATA_BATCHES, str(no_data_batches).lower())
    return apply_required_settings(sibling)


@contextmanager
def in_pool(spark: SparkSession, pool: str) -> Iterator[None]:
    """Run the jobs of this thread in a scheduler pool. Queries started inside the context keep the pool."""
    context = spark.sparkContext
    before = context.getLocalProperty(POOL)
    context.setLocalProperty(POOL, pool)
    try:
        yield
    finally:
        context.setLocalProperty(POOL, before)  # type: ignore[arg-type]  # None takes it away


def cores_of(spark: SparkSession) -> int:
    """Return how many tasks run at once: the number to give to ``repartition``."""
    return int(spark.sparkContext.defaultParallelism)


def task_slots(spark: SparkSession) -> int:
    """Return how many tasks run at the same time: on one machine by default one more than `cores_of`."""
    return int(slots[1]) if (slots := re.match(r"local\[(\d+)", str(spark.sparkContext.master))) else cores_of(spark)


def is_local(spark: SparkSession) -> bool:
    """Whether tasks run in the process of the driver."""
    return str(spark.sparkContext.master).startswith("local")


def java_listener(listener: StreamingQueryListener) -> Any:
    """Return an object that Spark's JVM calls with the events of queries, which it passes to `listener`."""
    assert SparkContext._jvm is not None, "a session has started"
    return SparkContext._jvm.PythonStreamingQueryListenerWrapper(JsonQueryListener(listener))


def packaged_file(name: str) -> Path:
    """Return the path of a file of Spark settings beside this module."""
    return Path(str(resources.files("spinney.spark").joinpath(name)))


def logging_option() -> str:
    """Return the Java option that names the logging configuration."""
    return f"-Dlog4j2.configurationFile={packaged_file('log4j2.properties').as_uri()}"


def _available_cores() -> int:
    """Return the number of cores this process may use; on macOS, of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _submitted_settings() -> dict[str, str]:
    """Return the settings of ``spark-submit``: from flags, spark-defaults.conf or the cluster."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return {}
    SparkContext._ensure_initialized()  # the only way to read them before there is a session
    return dict(SparkConf().getAll())


def _local_settings(runtime: Runtime, cores: int) -> dict[str, str]:
    archive_options = runtime.class_archive.java_options if runtime.class_archive else ()
    return {
        **LOCAL_SETTINGS,
        # One more than the cores, since tasks wait for Kafka, files and Python workers.
        "spark.master": f"local[{cores + 1}]",
        PARALLELISM: str(cores),
        # Not `spark.jars`, which Spark copies twice at each start and loads by a class loader that no archive covers.
        DRIVER_CLASS_PATH: os.pathsep.join(map(str, runtime.jars)),
        PARTITIONS: str(cores),
        "spark.scheduler.allocation.file": str(packaged_file("pools.xml")),
        DRIVER_JAVA_OPTIONS: " ".join([logging_option(), *LOCAL_JAVA_OPTIONS, *archive_options]),
    }


def _with_user_settings(settings: Mapping[str, str], requested: Mapping[str, str]) -> dict[str, str]:
    """Return the user's settings, with our Java options before theirs: of an option given twice the last counts.

    If the user names a garbage collector, ours is left out, since a JVM with two of them does not start. A class path
    of the user comes after ours.
    """
    if DRIVER_CLASS_PATH in requested:
        class_paths = (settings.get(DRIVER_CLASS_PATH), requested[DRIVER_CLASS_PATH])
        requested = {**requested, DRIVER_CLASS_PATH: os.pathsep.join(filter(None, class_paths))}
    ours, users = settings.get(DRIVER_JAVA_OPTIONS), requested.get(DRIVER_JAVA_OPTIONS, "")
    if not ours:
        return dict(requested)
    by_variables = (os.environ.get(name, "") for name in _JAVA_OPTION_VARIABLES)
    texts = (users, requested.get("spark.driver.defaultJavaOptions", ""), *by_variables)
    if any(_GC_OPTION.fullmatch(option) for text in texts for option in text.split()):
        ours = " ".join(option for option in ours.split() if not _GC_OPTION.fullmatch(option))
    return {**requested, DRIVER_JAVA_OPTIONS: f"{ours} {users}".strip()}


def _start_error(error: Exception, runtime: Runtime | None) -> SetupError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    java = f"the Java at {runtime.java_home}" if runtime else "the Java of spark-submit"
    return SetupError(
        f"Spark did not start with {java}: {first}. The lines above this one are Spark's own; "
        "run `spinney check` to see whether Java, jars and memory are as they should be"
    )
