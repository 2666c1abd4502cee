"""Set up this machine: find Java, fetch the jars, and configure ``spark-submit`` for both.

``python -m spinney.local.java_and_jars`` does it all.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from spinney.core.errors import SetupError
from spinney.local import class_archives, jars, java, spark_submit_conf
from spinney.local.ivy import ivy
from spinney.local.maven_repository import mirror
from spinney.spark import session


def runtime(progress: jars.Progress | None = None, environment: Mapping[str, str] = os.environ) -> session.Runtime:
    """Return Java and the jars for a Spark session in this process. Missing jars are downloaded.

    Raises:
        SetupError: no usable Java, or a jar that cannot be had.
    """
    jvm = java.find(environment)
    files = ensure_jars("spark", jvm, progress, environment)
    java_home = java.wrapped(jvm, jars.cache_folder(environment) / "java")
    # If the user has settings in Spark's conf folder, it has to stay on the class path, and no archive is used.
    is_ours = spark_submit_conf.has_only_generated_files(spark_home() / "conf")
    archive = class_archives.spark_archive(spark_home()) if is_ours else None
    return session.Runtime(files, java_home, archive)


def ensure_jars(
    use: str | None,
    jvm: java.Java,
    progress: jars.Progress | None = None,
    environment: Mapping[str, str] = os.environ,
) -> tuple[Path, ...]:
    """Return the files of the locked jars of one use (``spark``, ``broker``) or all. Missing ones are fetched.

    Raises:
        SetupError: a jar that cannot be had.
    """
    url = environment.get(jars.MIRROR)
    fetch = mirror(url) if url else ivy(jvm.executable, ivy_jar(), environment)
    return jars.ensure(jars.locked(use), jars.cache_folder(environment) / "jars", fetch, progress)


def spark_home() -> Path:
    """Return the folder of pip's pyspark.

    Raises:
        SetupError: pyspark is not installed.
    """
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise SetupError("pyspark: not installed in this Python. Run `make` in the project, or `pip install spinney`")
    return Path(spec.origin).parent


def ivy_jar() -> Path:
    """Return the jar of Ivy, from pyspark's own jars.

    Raises:
        SetupError: this pyspark has none.
    """
    jars_of_ivy = sorted((spark_home() / "jars").glob("ivy-*.jar"))
    if not jars_of_ivy:
        raise SetupError(f"{spark_home() / 'jars'}: no ivy-*.jar in it. Install pyspark from its own package again")
    return jars_of_ivy[-1]


def main() -> int:
    """Set up this machine, with progress on standard error.

    Returns the exit code: 1 after a failure, with one message.
    """
    try:
        jvm = java.find(os.environ)
        ensure_jars(None, jvm, _show)
        written = spark_submit_conf.write_defaults(runtime(), spark_home() / "conf")
    except SetupError as error:
        sys.stderr.write(f"spinney: {error}\n")
        return 1
    sys.stderr.write(f"Java {jvm.version} ({jvm.source}), {len(jars.locked())} jars, {written}\n")
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
