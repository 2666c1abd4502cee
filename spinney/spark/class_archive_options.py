"""Options by which Spark's JVM reads or writes an archive of its classes (class data sharing)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CONF_FOLDER_VARIABLE = "SPARK_CONF_DIR"


@dataclass(frozen=True)
class ClassArchiveOptions:
    """Options of a JVM that reads or writes a class archive, made by `spinney.local.class_archives`.

    java_options: for the command line. conf_folder: an empty folder that is used instead of Spark's ``conf`` folder,
    unless SPARK_CONF_DIR is set.
    """

    java_options: tuple[str, ...]
    conf_folder: Path


@contextmanager
def spark_conf_folder(archive: ClassArchiveOptions | None) -> Iterator[None]:
    """Give the JVM that starts inside the context the archive's ``conf`` folder, unless SPARK_CONF_DIR is set.

    Outside the context the setting is removed, so that a ``spark-submit`` that this process starts reads its own
    folder.
    """
    if archive is None or CONF_FOLDER_VARIABLE in os.environ:
        yield
        return
    os.environ[CONF_FOLDER_VARIABLE] = str(archive.conf_folder)
    try:
        yield
    finally:
        del os.environ[CONF_FOLDER_VARIABLE]
