"""The locked jars: reading the lock, and fetching missing jars into a cache.

A jar is kept only after its SHA-256 was checked, under its final name only when it is whole. So a fetch that was
interrupted continues where it stopped, and a second one needs no network.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_dir

from spinney.core.errors import SetupError

CACHE = "SPINNEY_CACHE"
HEX_CHARACTERS = 64
NAMED = 3  # of many jars, in one sentence
MIRROR = "SPINNEY_MAVEN_REPOSITORY"

Progress = Callable[[int, int, str], None]
"""Called with (number of jars loaded, number of jars needed, name of the jar that was just loaded)."""


@dataclass(frozen=True)
class Jar:
    """A line of the lock. use: ``spark`` or ``broker``. sha256: hex."""

    use: str
    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def coordinate(self) -> str:
        """Maven coordinate: ``group:artifact:version``."""
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def name(self) -> str:
        """File name."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def path(self) -> str:
        """Path in a Maven repository, relative to its root."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.name}"


Fetch = Callable[[Sequence[Jar], Path, Callable[[Jar, Path], None]], None]
"""Called with (jars, a folder to load them into, whose files may be deleted, a function to call with each loaded file).

Raises:
    SetupError: a jar could not be loaded; the function was called for the jars before it.
"""


def parse_lock(text: str) -> tuple[Jar, ...]:
    """Read the lock's text.

    Raises:
        SetupError: a line is not ``use group:artifact:version sha256``, or two jars would share one file name.
    """
    jars: dict[str, Jar] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split()
        coordinate = words[1].split(":") if len(words) == 3 else []
        if len(coordinate) != 3 or len(words[2]) != HEX_CHARACTERS:
            raise SetupError(f"jars.lock:{number}: expected 'use group:artifact:version sha256'; got {line!r}")
        group, artifact, version = coordinate
        jar = Jar(words[0], group, artifact, version, words[2])
        if jar.name in jars:
            raise SetupError(f"jars.lock:{number}: {jar.name} is there twice; one file name can hold one jar")
        jars[jar.name] = jar
    return tuple(jars.values())


def locked(use: str | None = None) -> tuple[Jar, ...]:
    """Return the jars of the lock: of one use (``spark``, ``broker``), or all if None."""
    text = resources.files("spinney.local").joinpath("jars.lock").read_text(encoding="utf-8")
    return tuple(jar for jar in parse_lock(text) if use in (None, jar.use))


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return the user's folder for jars and other generated files; ``SPINNEY_CACHE`` overrides it."""
    return Path(environment.get(CACHE) or user_cache_dir("spinney")).expanduser().absolute()


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_intact(jar: Jar, folder: Path) -> bool:
    """Return whether the jar is in the folder with the digest of the lock."""
    file = folder / jar.name
    return file.is_file() and digest_of(file) == jar.sha256


def ensure(jars: Sequence[Jar], folder: Path, fetch: Fetch, progress: Progress | None = None) -> tuple[Path, ...]:
    """Return the files of `jars` in `folder`, in their order. Missing or damaged ones are fetched first.

    Raises:
        SetupError: no network, a wrong digest, a missing coordinate, a full disk or a folder that cannot be written.
    """
    files = tuple(folder / jar.name for jar in jars)
    if all(is_intact(jar, folder) for jar in jars):
        return files
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):  # another process may be loading the same jars
            _fetch_missing(jars, folder, fetch, progress)
    except OSError as error:
        raise _disk_error(folder, error) from error
    return files


def _fetch_missing(jars: Sequence[Jar], folder: Path, fetch: Fetch, progress: Progress | None) -> None:
    missing = [jar for jar in jars if not is_intact(jar, folder)]
    done = len(jars) - len(missing)

    def adopt(jar: Jar, loaded: Path) -> None:
        nonlocal done
        got = digest_of(loaded)
        if got != jar.sha256:
            loaded.unlink()
            raise SetupError(
                f"{jar.name}: the loaded file is not the locked one: expected sha256 {jar.sha256}; got {got}. "
                f"It was deleted. Run this again; if it stays, the repository or a proxy on the way "
                f"changes files: set {MIRROR} to one that you trust"
            )
        loaded.replace(folder / jar.name)
        done += 1
        if progress:
            progress(done, len(jars), jar.name)

    if missing:
        loading = folder / ".loading"
        loading.mkdir(exist_ok=True)
        fetch(missing, loading, adopt)
        shutil.rmtree(loading, ignore_errors=True)


def _disk_error(folder: Path, error: OSError) -> SetupError:
    if error.errno == errno.ENOSPC:
        return full_disk(folder)
    reason = error.strerror or str(error)
    return SetupError(f"{folder}: cannot be written ({reason}). Make it writable, or set {CACHE} to another folder")


def full_disk(folder: Path) -> SetupError:
    """Return the error for a disk without free space."""
    return SetupError(f"{folder}: the disk is full. Free 200 MB there, or set {CACHE} to a folder on another disk")


def not_loaded(jars: Collection[Jar], cause: str) -> SetupError:
    """Return the error for jars that could not be downloaded. cause: the client's own message."""
    first = next(iter(jars)).name
    more = f" and {len(jars) - 1} more" if len(jars) > 1 else ""
    return SetupError(
        f"{first}{more}: could not be loaded: {cause}. Check the network (HTTPS_PROXY is used), or set {MIRROR} to a "
        "Maven repository that this machine reaches; then run this again: the jars that were loaded are kept"
    )


def not_there(jars: Collection[Jar], repository: str) -> SetupError:
    """Return the error for jars that a repository does not have."""
    names = ", ".join(jar.coordinate for jar in list(jars)[:NAMED]) + (" …" if len(jars) > NAMED else "")
    return SetupError(
        f"{names}: not in {repository}. Add it there, or set {MIRROR} to a Maven repository that has it; "
        "then run this again"
    )
