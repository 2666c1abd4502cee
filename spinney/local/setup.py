"""Set up this machine: find Java, fetch the jars, and configure ``spark-submit`` for both.

``python -m spinney.local.setup`` does it all.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from spinney.core.errors import SetupError
from spinney.local import jars, java
from spinney.local.ivy import ivy
from spinney.local.mirror import mirror
from spinney.spark import session


def runtime(progress: jars.Progress | None = None, environment: Mapping[str, str] = os.environ) -> session.Runtime:
    """Return Java and the jars for a Spark session in this process. Missing jars are fetched.

    Raises:
        SetupError: no usable Java, or a jar that cannot be had.
    """
    found = java.find(environment)
    files = ensure_jars("spark", found, progress, environment)
    return session.Runtime(jars=files, java_home=java.wrapped(found, jars.cache_folder(environment) / "java"))


def ensure_jars(
    use: str | None,
    found: java.Java,
    progress: jars.Progress | None = None,
    environment: Mapping[str, str] = os.environ,
) -> tuple[Path, ...]:
    """Return the files of the locked jars of one use (``spark``, ``broker``) or all. Missing ones are fetched.

    Raises:
        SetupError: a jar that cannot be had.
    """
    url = environment.get(jars.MIRROR)
    fetch = mirror(url) if url else ivy(found.executable, ivy_jar(), environment)
    return jars.ensure(jars.locked(use), jars.cache_folder(environment) / "jars", fetch, progress)


def spark_home() -> Path:
    """Return the folder of pip's pyspark.

    Raises:
        SetupError: pyspark is not installed.
    """
    found = importlib.util.find_spec("pyspark")
    if found is None or found.origin is None:
        raise SetupError("pyspark: not installed in this Python. Run `make` in the project, or `pip install spinney`")
    return Path(found.origin).parent


def ivy_jar() -> Path:
    """Return the jar of Ivy, from pyspark's own jars.

    Raises:
        SetupError: this pyspark has none.
    """
    found = sorted((spark_home() / "jars").glob("ivy-*.jar"))
    if not found:
        raise SetupError(f"{spark_home() / 'jars'}: no ivy-*.jar in it. Install pyspark from its own package again")
    return found[-1]


def main() -> int:
    """Set up with progress on standard error. Returns the exit code: 1 after a failure, with one message."""
    from spinney.local.submit import write_defaults

    try:
        found = java.find(os.environ)
        ensure_jars(None, found, _show)
        written = write_defaults(runtime(), spark_home() / "conf")
    except SetupError as error:
        sys.stderr.write(f"spinney: {error}\n")
        return 1
    sys.stderr.write(f"Java {found.version} ({found.source}), {len(jars.locked())} jars, {written}\n")
    return 0


def _show(done: int, wanted: int, name: str) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == wanted else ""
        sys.stderr.write(f"\r\033[Kjars {done}/{wanted} {name}{end}")
    elif done == wanted:
        sys.stderr.write(f"jars {done}/{wanted}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
