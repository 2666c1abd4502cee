"""Starts Spark's Python workers (``spark.python.daemon.module``) so that their tasks begin and end in a millisecond.

Two things that Spark does at each task cost more than a micro-batch of a few hundred rows:

- it calls ``importlib.invalidate_caches()``, after which Python reads the directory of each archive on its path again,
  and Spark puts ``pyspark.zip``, ``py4j-*.zip`` and ``spark-core*.jar`` there. The same packages are
  installed as well, so these archives are removed from the path;
- it calls ``gc.collect()``, which visits every object of pandas, Arrow and scikit-learn. They are imported here, once,
  before a worker is forked, and `gc.freeze` makes the collector ignore them, so that their memory also stays shared.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

PACKAGES = ("pyspark", "py4j")


def without_archives(path: Sequence[str]) -> list[str]:
    """Return `path` without Spark's archives; unchanged if one of their packages is nowhere else on it."""
    kept = [entry for entry in path if not _is_archive(entry)]
    installed = all(PathFinder.find_spec(package, kept) for package in PACKAGES)
    return kept if installed else list(path)


def _is_archive(entry: str) -> bool:
    name = Path(entry).name
    is_core = name.startswith("spark-core") and name.endswith(".jar")
    return is_core or (name.endswith(".zip") and name.startswith(PACKAGES))


def _start() -> None:
    sys.path[:] = without_archives(sys.path)
    for entry in [entry for entry in sys.path_importer_cache if _is_archive(entry)]:
        if entry not in sys.path:
            del sys.path_importer_cache[entry]

    import pyspark.worker  # noqa: F401  # only now: from where it is installed
    from pyspark.daemon import manager

    import spinney.core.models.batch_scoring
    import spinney.core.staleness.judge
    import spinney.retraining.fitting.spark_fitting  # noqa: F401
    import streaming.ingest_rows  # noqa: F401  # with these come pandas, Arrow, scikit-learn

    gc.collect()
    gc.freeze()
    manager()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    _start()
