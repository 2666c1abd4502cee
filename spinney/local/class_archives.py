"""Archives of loaded classes for the JVMs of Spark and the broker (Java's class-data sharing, JEP 350).

A JVM maps an archive into memory where it would otherwise read, parse and verify thousands of classes from jars: the
start of Spark takes half the CPU time. `spinney.local.class_archive_training` writes the archives at set-up. Java
ignores an archive silently if its own version, the class path or the size or time of a jar is not that of the training.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from spinney.spark.class_archive_options import ClassArchiveOptions

QUIET = ("-Xlog:disable", "-Xlog:all=error:stderr")
"""Options that keep warnings about unusable archives off standard output, which belongs to the commands."""


class ArchiveUse(StrEnum):
    """Which JVM an archive is for."""

    SPARK = "spark"
    BROKER = "broker"


def archive_folder(spark_home: Path) -> Path:
    """Return the folder of the archives. It is beside Spark's jars, since the archives fit only these."""
    return spark_home / "class-archives"


def archive_file(use: ArchiveUse, spark_home: Path) -> Path:
    """Return the path of an archive, whether or not it exists."""
    return archive_folder(spark_home) / f"{use}.jsa"


def empty_conf_folder(spark_home: Path) -> Path:
    """Return the empty folder that is on Spark's class path in place of its ``conf`` folder.

    Java archives no classes if a folder on the class path holds files.
    """
    return archive_folder(spark_home) / "conf"


def broker_options(spark_home: Path) -> tuple[str, ...]:
    """Return the Java options of a broker that uses its archive; none if there is no archive."""
    file = archive_file(ArchiveUse.BROKER, spark_home)
    return (f"-XX:SharedArchiveFile={file}", *QUIET) if file.is_file() else ()


def spark_archive(spark_home: Path) -> ClassArchiveOptions | None:
    """Return the archive of Spark; None if there is none."""
    file, conf_folder = archive_file(ArchiveUse.SPARK, spark_home), empty_conf_folder(spark_home)
    if not file.is_file() or not conf_folder.is_dir():
        return None
    return ClassArchiveOptions((f'"-XX:SharedArchiveFile={file}"', *QUIET), conf_folder)
