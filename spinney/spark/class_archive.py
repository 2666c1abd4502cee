"""How Spark's JVM is told of an archive of its classes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CONF_FOLDER_VARIABLE = "SPARK_CONF_DIR"


@dataclass(frozen=True)
class ClassArchive:
    """How a JVM reads or writes an archive of its classes (`spinney.local.class_archives`).

    java_options: of the JVM. conf_folder: an empty folder, Spark's ``conf`` folder unless SPARK_CONF_DIR is set.
    """

    java_options: tuple[str, ...]
    conf_folder: Path


@contextmanager
def spark_conf_folder(archive: ClassArchive | None) -> Iterator[None]:
    """Give the JVM that starts inside the context the archive's ``conf`` folder, unless SPARK_CONF_DIR is set.

    Not for longer: a ``spark-submit`` that this process starts reads its own.
    """
    if archive is None or CONF_FOLDER_VARIABLE in os.environ:
        yield
        return
    os.environ[CONF_FOLDER_VARIABLE] = str(archive.conf_folder)
    try:
        yield
    finally:
        del os.environ[CONF_FOLDER_VARIABLE]
