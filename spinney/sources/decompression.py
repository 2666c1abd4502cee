"""Unpack compressed files into a temporary folder, since the readers go through a file more than once."""

from __future__ import annotations

import tempfile
from functools import cache
from itertools import count
from pathlib import Path

import pyarrow as pa

from spinney.core.errors import ContractError

CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""Ending of a file that is unpacked, and its codec."""

_BLOCK_BYTES = 4 << 20
_numbers = count()


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """The folder of this process, removed when it ends."""
    return tempfile.TemporaryDirectory(prefix="spinney-unpacked-")


def unpack(file: Path, name: str) -> Path:
    """Return an unpacked copy of a file that ends in one of CODECS; other files as they are.

    name: for messages. Raises ContractError if the file is not of its codec, is cut off, or does not fit on the disk of
    the temporary folder (TMPDIR).
    """
    codec = CODECS.get(file.suffix.lower())
    if codec is None:
        return file
    copy = Path(_folder().name) / f"{next(_numbers)}-{file.stem}"
    try:
        with pa.input_stream(str(file), compression=codec) as packed, copy.open("wb") as out:
            while block := packed.read(_BLOCK_BYTES):
                out.write(block)
    except OSError as error:
        copy.unlink(missing_ok=True)
        raise ContractError(
            f"{name}: expected a whole file compressed by {codec}; got: {error}. Write the file again, or unpack it "
            "yourself"
        ) from error
    return copy
