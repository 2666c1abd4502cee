"""Empty tables of a fleet, without the time that Delta takes to make each."""

from __future__ import annotations

from pathlib import Path

from schemas.contract import Contract
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import delta

FIRST_COMMIT = Path("_delta_log") / f"{0:020}.json"
_commits: dict[tuple[str, Contract], bytes] = {}


def create_tables(store: FleetStore) -> None:
    """What `delta.create_tables` does, by copies of its first commits for the same columns: 4 ms in place of 55."""
    wanted = {directory: (directory.name, directory.contract) for directory in store.every_directory()}
    made: set[str] = set()
    if not (store.folder / "tables").exists():
        made = {directory.name for directory, name in wanted.items() if _copy(directory, _commits.get(name))}
    if len(made) == len(wanted):
        return
    missing = set(delta.create_tables(store))
    for directory, name in wanted.items():
        if directory.name in missing:
            _commits[name] = (Path(directory.uri) / FIRST_COMMIT).read_bytes()


def _copy(directory: Directory, commit: bytes | None) -> bool:
    if commit is not None:
        file = Path(directory.uri) / FIRST_COMMIT
        file.parent.mkdir(parents=True)
        file.write_bytes(commit)
    return commit is not None
