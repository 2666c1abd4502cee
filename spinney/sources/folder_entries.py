"""List what is below a folder, sorted by path, links to other folders included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from spinney.sources.columnar.delta_tables import is_delta


@dataclass
class FolderEntries:
    """The files, folders and Delta tables below a folder.

    found: sorted by path. repeated: links to what is found anyway. hidden: files whose names begin with `_`.
    """

    found: list[Path] = field(default_factory=list)
    repeated: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)


def list_entries(folder: Path) -> FolderEntries:
    """Return the entries below a folder. Raises OSError.

    Links to folders are followed, but not back to a folder above them. What is inside a Delta table is left out.
    """
    entries = FolderEntries()
    root = folder.resolve()
    listed = list(_walk(folder, frozenset({root}), is_linked=False))
    visible = (path for path, is_linked in listed if not is_linked and not is_hidden(path.name))
    taken = {root, *(root / path.relative_to(folder) for path in visible)}
    for path, is_linked in listed:
        if is_hidden(path.name):
            entries.hidden.append(path)
        elif not is_linked or not path.exists():
            entries.found.append(path)
        elif (real := path.resolve()) not in taken:
            taken.add(real)
            entries.found.append(path)
        elif path.is_symlink() and set(entries.repeated).isdisjoint(path.parents):
            entries.repeated.append(path)
    return entries


def is_hidden(name: str) -> bool:
    """Return whether Spark and Hive skip a file or folder of this name: `_SUCCESS`, but not the partition `_day=1`."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _walk(folder: Path, above: frozenset[Path], *, is_linked: bool) -> Iterator[tuple[Path, bool]]:
    """Yield each path below a folder, and whether a link leads to it. above: the real folders around them.

    Of what is hidden, only files whose names begin with `_` are yielded.
    """
    for path in sorted(folder.iterdir()):
        is_folder, linked = path.is_dir(), is_linked or path.is_symlink()
        if is_hidden(path.name):
            if not is_folder and path.name.startswith("_"):
                yield path, linked
            continue
        yield path, linked
        real = path.resolve() if linked else path
        if is_folder and not is_delta(path) and real not in above:
            yield from _walk(path, above | {real if linked else path.resolve()}, is_linked=linked)
