"""Run by test_estimator_arrays in a process of its own: reads payloads with random bytes changed, then predicts.

Prints how many were tried and how many were refused.
"""

from __future__ import annotations

import struct
import sys
import warnings
import zlib

import numpy as np
import pyarrow as pa

from spinney.core.errors import Corrupt
from spinney.core.models.arrays import arrays_codec

TRIES = 150
ASKED = np.random.default_rng(1).normal(size=(50, 6))


def changed(payload: bytes, random: np.random.Generator) -> bytes:
    _, length = struct.unpack_from("<II", payload)
    raw = bytearray(pa.Codec("zstd").decompress(payload[8:], decompressed_size=length))
    (size,) = struct.unpack_from("<I", raw)
    # Half of them in the arrays: in the description most changes are no JSON.
    begin = 4 + size if random.random() < 0.5 else 0
    for at in random.integers(begin, len(raw), size=random.integers(1, 4)):
        raw[at] ^= int(random.integers(1, 256)) if begin else 1
    body = pa.Codec("zstd").compress(bytes(raw), asbytes=True)
    return struct.pack("<II", zlib.crc32(body), len(raw)) + body


def main() -> None:
    warnings.simplefilter("ignore")
    random, refused, tried = np.random.default_rng(3), 0, 0
    for payload in map(bytes.fromhex, sys.argv[1:]):
        for _ in range(TRIES):
            tried += 1
            try:
                estimator = arrays_codec.unpack(changed(payload, random))
            except Corrupt:
                refused += 1
                continue
            try:
                estimator.predict(ASKED)
            except Exception:  # a model that raises is a group's failure, not the process' end
                continue
    sys.stdout.write(f"{tried} {refused}\n")


main()
