"""Versions of what Spinney stores, and the refusal of a version that it does not read.

Each format has a number, stored beside or inside the content. Readers accept every number up to the one that is
written. docs/formats.md lists all formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spinney.core.errors import Corrupt, UnknownFormat

KEY = "format"
"""Key of the version in a JSON object."""

METADATA_KEY = b"spinney.format"
"""Key of the version in the metadata of a Parquet file."""

FIRST = 1
"""The version of content that does not name its version: it was written before versions were stored."""


@dataclass(frozen=True)
class StoredFormat:
    """A stored format: its name in docs/formats.md, and the version that is written now."""

    name: str
    version: int = FIRST

    def check(self, found: object, where: object) -> int:
        """Return the stored version; FIRST if `found` is None, because the content does not name it.

        found: an int or its text, as it was read. where: the file, table or state, for the message. Raises
        UnknownFormat for a version that a later Spinney wrote, Corrupt for anything that is not a version.
        """
        version = FIRST if found is None else int(str(found)) if str(found).isdecimal() else 0
        if FIRST <= version <= self.version:
            return version
        read = f"{FIRST}" if self.version == FIRST else f"{FIRST} to {self.version}"
        expected = f"{where}: expected {self.name} in format {read}, which this version of Spinney reads; got"
        if version == 0:
            raise Corrupt(f"{expected} format {str(found)[:40]!r}, which does not exist. Restore it from a backup")
        raise UnknownFormat(
            f"{expected} format {version}. Nothing was changed. A later version of Spinney wrote it: upgrade Spinney "
            "to that version or a later one"
        )

    def check_object(self, content: Any, where: object) -> int:
        """Return the version that a JSON object names. Raises Corrupt and UnknownFormat."""
        return self.check(content.get(KEY) if isinstance(content, Mapping) else None, where)

    def check_metadata(self, metadata: Mapping[bytes, bytes] | None, where: object) -> int:
        """Return the version in the metadata of a Parquet file. Raises Corrupt and UnknownFormat."""
        found = (metadata or {}).get(METADATA_KEY)
        return self.check(None if found is None else found.decode(errors="replace"), where)

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """The entry for this format in a Parquet file's metadata."""
        return {METADATA_KEY: str(self.version).encode()}


CHARTER = StoredFormat("charter.json")
TOPICS = StoredFormat("topics.json", 2)
LAST_CONFIGURATION = StoredFormat("last.toml")
RECIPE = StoredFormat("recipes")
REPLAY = StoredFormat("replays")
REQUEST = StoredFormat("requests")
COMMIT = StoredFormat("commits")
JUDGE_STATE = StoredFormat("state of the judge", 5)
CHAMPIONS_STATE = StoredFormat("state of champions", 3)
MODEL = StoredFormat("models", 3)
MANIFEST = StoredFormat("manifest", 2)
API_KEYS = StoredFormat("api_keys.json")
OFFSETS = StoredFormat("offsets")
LABEL_INDEX = StoredFormat("label index")
KEPT_SINCE = StoredFormat("kept_since")

ALL: Iterable[StoredFormat] = (
    CHARTER, TOPICS, LAST_CONFIGURATION, RECIPE, REPLAY, REQUEST, COMMIT, JUDGE_STATE, CHAMPIONS_STATE, MODEL, MANIFEST,
    API_KEYS, OFFSETS, LABEL_INDEX, KEPT_SINCE,
)  # fmt: skip
