from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from deltalake import DeltaTable
from spinney_process import environment

from spinney.core.errors import SetupError
from spinney.spark.session import (
    NO_DATA_BATCHES,
    PARTITIONS,
    POOL,
    apply_required_settings,
    cores_of,
    in_pool,
    session,
    sibling_session,
    task_slots,
)

UNION = "spark.sql.unionOutputPartitioning"


def test_a_delta_table_is_written_read_and_open_to_readers_of_version_1(spark, tmp_path: Path) -> None:
    table = str(tmp_path / "table")
    spark.createDataFrame([("a", 1), ("b", 2)], "key string, value int").write.format("delta").save(table)
    assert sorted(map(tuple, spark.read.format("delta").load(table).collect())) == [("a", 1), ("b", 2)]
    without_a_jvm = DeltaTable(table)
    assert without_a_jvm.protocol().min_reader_version == 1
    assert sorted(without_a_jvm.to_pyarrow_table().to_pydict()["key"]) == ["a", "b"]


def test_tables_made_here_checkpoint_rarely(spark, tmp_path: Path) -> None:
    table = tmp_path / "table"
    spark.range(1).write.format("delta").save(str(table))
    log = (table / "_delta_log" / f"{0:020}.json").read_text().splitlines()
    (metadata,) = [action["metaData"] for action in map(json.loads, log) if "metaData" in action]
    assert metadata["configuration"] == {"delta.checkpointInterval": "200"}


def test_workers_run_this_python_and_import_the_installed_package(spark) -> None:
    def who(frames):
        import numpy as np
        import pyarrow as pa

        import spinney

        for frame in frames:
            settings = f"{os.environ['OMP_NUM_THREADS']}|{pa.default_memory_pool().backend_name}"
            where = [f"{sys.executable}|{spinney.__file__}|{settings}|{np.__version__}"]
            yield pd.DataFrame({"where": where * len(frame)})

    import numpy as np

    import spinney

    rows = spark.range(1).mapInPandas(who, "where string").collect()
    assert rows[0].where == f"{sys.executable}|{spinney.__file__}|1|system|{np.__version__}"


def test_the_jvm_gives_memory_outside_its_heap_back(spark) -> None:
    jvm = spark.sparkContext._jvm
    assert jvm.System.getenv("MALLOC_ARENA_MAX") == os.environ["MALLOC_ARENA_MAX"]
    arguments = jvm.java.lang.management.ManagementFactory.getRuntimeMXBean().getInputArguments()
    assert "-XX:TrimNativeHeapInterval=60000" in list(arguments)


def test_a_task_finds_no_archive_of_spark_on_its_path_and_pandas_out_of_the_collectors_sight(spark) -> None:
    def what(frames):
        import gc

        for _ in frames:
            zips = [entry for entry in sys.path_importer_cache if "python/lib/py" in entry]
            seen = {"zips": len(zips), "frozen": gc.get_freeze_count(), "tracked": len(gc.get_objects())}
            yield pd.DataFrame([seen])

    row = spark.range(1).repartition(1).mapInPandas(what, "zips int, frozen int, tracked int").collect()[0]
    assert row.zips == 0
    assert row.frozen > row.tracked


def test_times_are_utc_whatever_the_machine_says(spark) -> None:
    assert spark.sql("select cast(timestamp'2013-01-01 00:00:00+05:00' as string) t").first().t == "2012-12-31 19:00:00"


def test_a_shuffle_makes_one_partition_per_core(spark) -> None:
    assert int(spark.conf.get(PARTITIONS)) == cores_of(spark)


def test_one_task_more_than_cores_runs_at_once(spark) -> None:
    assert task_slots(spark) == cores_of(spark) + 1


@pytest.mark.parametrize(("master", "slots"), [("local[4]", 4), ("local[4, 2]", 4), ("local[*]", 8), ("yarn", 8)])
def test_elsewhere_as_many_tasks_run_at_once_as_the_master_or_the_parallelism_says(master: str, slots: int) -> None:
    context = SimpleNamespace(master=master, defaultParallelism=8)
    assert task_slots(SimpleNamespace(sparkContext=context)) == slots


def test_state_is_kept_in_rocksdb_with_changelogs(spark) -> None:
    assert spark.conf.get("spark.sql.streaming.stateStore.providerClass").endswith(".RocksDBStateStoreProvider")
    assert spark.conf.get("spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled") == "true"


def test_one_query_may_have_batches_without_data_and_the_others_not(spark) -> None:
    ticking = sibling_session(spark, no_data_batches=True)
    assert ticking.conf.get(NO_DATA_BATCHES) == "true"
    assert ticking.conf.get(PARTITIONS) == spark.conf.get(PARTITIONS)
    assert spark.conf.get(NO_DATA_BATCHES) == "false"


def test_a_union_claims_no_partitioning_in_any_session_also_not_in_one_that_was_given(spark) -> None:
    given = spark.newSession()
    given.conf.set(UNION, "true")
    found = [
        each.conf.get(UNION)
        for each in (spark, sibling_session(given, no_data_batches=False), apply_required_settings(given))
    ]
    assert found == ["false", "false", "false"]
    with pytest.raises(SetupError, match=f"{UNION}: expected false; got true"):
        session(options={UNION: "true"})


def test_a_pool_holds_inside_its_block_only(spark) -> None:
    context = spark.sparkContext
    assert context.getConf().get("spark.scheduler.mode") == "FAIR"
    with in_pool(spark, "score"):
        assert context.getLocalProperty(POOL) == "score"
        with pytest.raises(ZeroDivisionError), in_pool(spark, "retrain"):
            _ = 1 / 0
        assert context.getLocalProperty(POOL) == "score"
    assert context.getLocalProperty(POOL) is None


def test_the_pools_have_their_weights(spark) -> None:
    pools = spark.sparkContext._jsc.sc().getAllPools()
    weights = {pools.apply(i).name(): pools.apply(i).weight() for i in range(pools.size())}
    assert {"ingest": 2, "score": 4, "labels": 2, "retrain": 1}.items() <= weights.items()


SHORT_LIVED = {"SPARK_SUBMIT_OPTS": environment()["SPARK_SUBMIT_OPTS"]}
"""For the JVM of a process of seconds, which neither optimises nor generates code."""

SCRIPT = """
import sys
from spinney.local.java_and_jars import runtime
from spinney.spark.session import session

spark = session(runtime=runtime(), cores=1)
spark.range(3).write.format("delta").save(sys.argv[1])
print(spark.read.format("delta").load(sys.argv[1]).count(), spark.sparkContext._jvm.System.getProperty("java.version"))
"""


def test_without_any_java_the_bundled_one_runs_spark_quietly(tmp_path: Path) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    for tool in Path("/bin").iterdir():
        if not tool.name.startswith("java"):
            (path / tool.name).symlink_to(tool)
    environment = {name: value for name, value in os.environ.items() if name not in ("JAVA_HOME", "PYSPARK_PYTHON")}
    for name in [name for name in environment if name.startswith(("PYSPARK_GATEWAY", "SPARK_"))]:
        del environment[name]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "table")],
        env={**environment, **SHORT_LIVED, "PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["3", "21.0.8"], done.stderr
    assert done.stderr == ""


SUBMITTED = """
import sys
from spinney.spark.session import session

spark = session()
spark.range(3).write.format("delta").save(sys.argv[1])
table = spark.read.format("delta").load(sys.argv[1])
print(table.count(), spark.conf.get("spark.sql.session.timeZone"), spark.conf.get("spark.sql.shuffle.partitions"))
"""


def test_spark_submit_needs_no_flags_after_set_up_and_heeds_those_it_gets(tmp_path: Path) -> None:
    from spinney.local.java_and_jars import runtime
    from spinney.local.spark_submit_conf import write_defaults

    write_defaults(runtime(), tmp_path / "conf")
    script = tmp_path / "app.py"
    script.write_text(SUBMITTED)
    done = subprocess.run(
        ["spark-submit", "--conf", "spark.sql.shuffle.partitions=7", script, tmp_path / "table"],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYSPARK", "SPARK_"))},
            **SHORT_LIVED,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "SPARK_CONF_DIR": str(tmp_path / "conf"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["3", "UTC", "7"], done.stderr
