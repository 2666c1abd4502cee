"""The fleet that an earlier version of Spinney has written (`tests/data/earlier_root/make.py` made it).

Its signing key and its models are of no other use. Its times are of November 2026: a clock before that is refused by
the stream.
"""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spinney.core.config import Config
from spinney.storage.config_file import read_config

ARCHIVE = Path(__file__).parents[1] / "data" / "earlier_root" / "root.tar.gz"


@dataclass(frozen=True)
class EarlierRoot:
    """The unpacked archive."""

    folder: Path

    @classmethod
    def unpack(cls, folder: Path) -> EarlierRoot:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(folder, filter="data")
        return cls(folder)

    @property
    def file(self) -> Path:
        return self.folder / "fleet.toml"

    @property
    def config(self) -> Config:
        return read_config(self.file, {})

    @property
    def signing_key(self) -> str:
        return (self.folder / "root" / "signing.key").read_text()

    @cached_property
    def expected(self) -> dict[str, Any]:
        """What the version that wrote it said of it."""
        return dict(json.loads((self.folder / "expected.json").read_text()))

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """Every record of its topics, in the order of their offsets."""
        return [json.loads(line) for line in (self.folder / "topics.jsonl").read_text().splitlines()]
