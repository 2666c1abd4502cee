"""Serialize a fitted scikit-learn estimator as a JSON description and the bytes of its arrays, and load it.

Layout, little-endian: checksum, length of what follows when unpacked, then compressed by zstd: length of the
description, the description, the arrays one after the other. The description: `sklearn`, the version that wrote it;
`arrays`, each one's type, shape and order; `root`, the estimator. There a JSON list is a tag and its arguments:

    ["object", class, {attribute: node}]        an object of one of `allowed_classes.ALLOWED`
    ["objects", class, n, {attribute: column}]  n of one class; a column is ["same", node] or ["each", node]
    ["array", i]  ["scalar", i]  ["stack", i]   an array, a NumPy number, a list of arrays of one shape
    ["trees", …]  ["predictors", …]             lists of trees: see `packed_trees`

and other tags for tuples, lists, dicts, slices, types of numbers and random states. Reading does not call anything that
the bytes name: classes come from a fixed list, their attributes are set one by one, all else is built here. Equal
estimators give the same bytes in every process.
"""

from __future__ import annotations

import json
import struct
import warnings
import zlib
from typing import Any

import pyarrow as pa
import sklearn
from sklearn.exceptions import InconsistentVersionWarning

from spinney.core.errors import Corrupt
from spinney.core.models.arrays.packed_trees import InexpressibleError
from spinney.core.models.arrays.reader import Reader
from spinney.core.models.arrays.writer import Writer

MAX_BYTES = 1 << 28
"""Largest size of one unpacked estimator."""

_START = struct.Struct("<II")
_DESCRIPTION = struct.Struct("<I")
_LEVEL = 1
"""Compression level of zstd. Level 3 takes twice the time for 6 % fewer bytes of a forest."""


def pack(estimator: Any) -> bytes:
    """Serialize an estimator. Raises InexpressibleError for one that this codec cannot hold; skops may."""
    writer = Writer()
    try:
        root = writer.node(estimator)
        about = {"sklearn": sklearn.__version__, "arrays": writer.table, "root": root}
        description = json.dumps(about, separators=(",", ":")).encode()
    except (RecursionError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise InexpressibleError(f"{type(estimator).__name__}: {error}") from error
    raw = b"".join([_DESCRIPTION.pack(len(description)), description, *writer.buffers])
    if len(raw) > MAX_BYTES:
        raise InexpressibleError(f"{type(estimator).__name__}: {len(raw)} bytes; at most {MAX_BYTES} are read back")
    body: bytes = pa.Codec("zstd", compression_level=_LEVEL).compress(raw, asbytes=True)
    return _START.pack(zlib.crc32(body), len(raw)) + body


def unpack(payload: bytes) -> Any:
    """Load an estimator. Raises Corrupt for bytes that `pack` did not write, or that this scikit-learn cannot load.

    Warns InconsistentVersionWarning, as scikit-learn does, if another version of scikit-learn wrote them.
    """
    try:
        checksum, length = _START.unpack_from(payload)
        body = memoryview(payload)[_START.size :]
        if length > MAX_BYTES or zlib.crc32(body) != checksum:
            raise ValueError(f"a checksum that does not hold, or more than {MAX_BYTES} bytes")
        raw = pa.Codec("zstd").decompress(body, decompressed_size=length)
        (size,) = _DESCRIPTION.unpack_from(raw)
        start = _DESCRIPTION.size + size
        about = json.loads(bytes(memoryview(raw)[_DESCRIPTION.size : start]))
    except Exception as error:
        raise _corrupt(error) from error
    return _build(about, raw, start)


def _build(about: Any, raw: Any, start: int) -> Any:
    version = sklearn.__version__
    try:
        version = about["sklearn"]
        reader = Reader(about["arrays"], raw, start)
        estimator = reader.value(about["root"])
        reader.end()
    except Exception as error:  # invalid bytes may fail anywhere
        raise _corrupt(error, _versions(version)) from error
    if version != sklearn.__version__:
        warnings.warn(
            InconsistentVersionWarning(
                estimator_name=type(estimator).__name__,
                current_sklearn_version=sklearn.__version__,
                original_sklearn_version=str(version),
            ),
            stacklevel=3,
        )
    return estimator


def _corrupt(error: Exception, versions: str = "") -> Corrupt:
    got = f"{type(error).__name__}: {error}"[:500]
    return Corrupt(f"codec sklearn-arrays: expected bytes that can be read; got {got}{versions}")


def _versions(written: object) -> str:
    if written == sklearn.__version__:
        return ""
    here = sklearn.__version__
    return f". scikit-learn {str(written)[:40]} wrote them, this is {here}: refit the group, or install that version"
