"""What the files of streaming state need of the session."""

from __future__ import annotations

from pyspark.sql import SparkSession


def test_snapshots_of_a_state_can_be_copied_to_and_from_the_local_file_system(spark: SparkSession) -> None:
    """RocksDB's snapshots go by `copyFromLocalFile`, which takes Hadoop's own local file system and no other."""
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    local = spark.sparkContext._jvm.org.apache.hadoop.fs.FileSystem.getLocal(hadoop)
    assert spark._jvm.java.lang.Class.forName("org.apache.hadoop.fs.LocalFileSystem").isInstance(local)
