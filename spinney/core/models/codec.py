"""Serialize models to bytes and back. The set of codecs is closed.

linear    arrays: little-endian, ``format, link, scores, width, header length``, a JSON header (features, words of
          strings, classes), then float64: intercepts, coefficients, fill values. A few hundred bytes. Format 3: then
          the least and the greatest value of each column, and the group variances of a parent. Format 2 has no such
          values, and group variances with two columns less, which are not read: the parent's groups are fitted
          without them until it is fitted again.
seasonal  arrays: ``format, scores, first column, columns, period, step, header length``, the header, then float64: the
          values of each cell and of a missing time.
sklearn-arrays  other scikit-learn estimators, as the arrays that they hold: `arrays/arrays_codec.py`.
skops     estimators of classes that sklearn-arrays does not allow, with our own list of allowed types.
pickle    anything, but only if a caller passes allow_pickle: loading a pickle runs code that it names.

`load` validates the bytes, but compiled code may still trust them: verify their signature first. `load_signed` does
both.
"""

from __future__ import annotations

import json
import pickle
import struct
from functools import lru_cache
from typing import Any

import numpy as np

from spinney.core.errors import Corrupt
from spinney.core.features.encoding import Encoder
from spinney.core.models import skops_codec
from spinney.core.models.linear import Linear, Link, unlimited
from spinney.core.models.model import Model
from spinney.core.models.seasonal_table import Cells, Seasonal
from spinney.core.models.signing import Claim, Signer
from spinney.core.stored_formats import FIRST, MODEL

LINEAR, SEASONAL, ARRAYS, SKOPS, PICKLE = "linear", "seasonal", "sklearn-arrays", "skops", "pickle"
CODECS = (LINEAR, SEASONAL, ARRAYS, SKOPS, PICKLE)

_LINEAR = struct.Struct("<BBHII")
_SEASONAL = struct.Struct("<BHIHIII")
_OTHER = struct.Struct("<BI")

Header = tuple[Encoder, tuple[str, ...] | None, int]
"""Encoder, classes, and the width of the encoder's matrix."""


def dump(model: Model, *, allow_pickle: bool = False) -> tuple[str, bytes]:
    """Choose a codec and return its name and the payload. Equal models give equal bytes, except by pickle.

    Raises ContractError if no codec but pickle can store it and pickle is not allowed.
    """
    header = _header_bytes(model.encoder, model.classes)
    if isinstance(model.estimator, Linear):
        return LINEAR, _dump_linear(model.estimator, header)
    if isinstance(model.estimator, Seasonal):
        return SEASONAL, _dump_seasonal(model.estimator, header)
    start = _OTHER.pack(FIRST, len(header)) + header
    if allow_pickle:
        return PICKLE, start + pickle.dumps(model.estimator, protocol=5)
    # Importing it takes a second (scikit-learn's trees): a process with linear models only does not need it.
    from spinney.core.models.arrays import arrays_codec
    from spinney.core.models.arrays.packed_trees import InexpressibleError

    try:
        return ARRAYS, start + arrays_codec.pack(model.estimator)
    except InexpressibleError:
        return SKOPS, start + skops_codec.pack(model.estimator)


def load(codec: str, payload: bytes, *, allow_pickle: bool = False) -> Model:
    """Load a model from the payload of `dump`.

    Raises Corrupt for any other bytes, and for a pickle unless it is allowed.
    """
    if codec == PICKLE and not allow_pickle:
        raise Corrupt(
            "codec pickle: expected one that is allowed here. Refit the group with another estimator: "
            "spinney retrain --group"
        )
    try:
        if codec in CODECS and payload:
            MODEL.check(payload[0], f"codec {codec}")
        if codec == LINEAR:
            return _load_linear(payload)
        if codec == SEASONAL:
            return _load_seasonal(payload)
        if codec in {ARRAYS, SKOPS, PICKLE}:
            return _load_other(codec, payload)
    except Corrupt:
        raise
    except Exception as error:  # hostile bytes may fail anywhere
        raise Corrupt(f"codec {codec}: expected bytes that can be read; got {type(error).__name__}: {error}") from error
    raise Corrupt(f"codec: expected one of {', '.join(CODECS)}; got {codec!r}")


def load_signed(
    signer: Signer, claim: Claim, payload: bytes, signature: bytes | None, *, allow_pickle: bool = False
) -> Model:
    """Verify the signature, then load. Raises Corrupt; no byte is parsed unless the signature verifies."""
    signer.verify(claim, payload, signature)
    return load(claim.codec, payload, allow_pickle=allow_pickle)


def _dump_linear(linear: Linear, header: bytes) -> bytes:
    scores, width = linear.coefficients.shape
    arrays, version = [linear.intercept, linear.coefficients, linear.fill], FIRST
    if linear.limits is not None or linear.group_variances is not None:
        version = MODEL.version
        arrays.append(unlimited(width) if linear.limits is None else linear.limits)
    if linear.group_variances is not None:
        arrays.append(linear.group_variances)
    start = _LINEAR.pack(version, linear.link, scores, width, len(header))
    return b"".join([start, header, *(values.astype("<f8").tobytes() for values in arrays)])


def _load_linear(payload: bytes) -> Model:
    version, link, scores, width, length = _LINEAR.unpack_from(payload)
    body = _LINEAR.size + length
    has_limits = version == MODEL.version
    whole = body + 8 * (scores + scores * width + width + (2 * width if has_limits else 0))
    rung = 8 * ((3 if has_limits else 1) + width)
    rungs, rest = divmod(len(payload) - whole, rung)
    if rest or rungs < 0 or (rungs > 0 and version == FIRST):
        expected = f"{whole} bytes" if version == FIRST else f"{whole} bytes and some times {rung} more"
        raise Corrupt(f"codec linear: expected {expected}; got {len(payload)}")
    encoder, classes, columns = _header(payload[_LINEAR.size : body])
    linked = Link(link)
    n_classes = {Link.IDENTITY: None, Link.LOGISTIC: 2}.get(linked, scores)
    if columns != width or (None if classes is None else len(classes)) != n_classes or scores < 1:
        raise Corrupt("codec linear: expected arrays that fit the features and classes; got others")
    numbers, variances, limits = np.frombuffer(payload[:whole], dtype="<f8", offset=body), None, None
    middle = scores + scores * width
    coefficients = numbers[scores:middle].reshape(scores, width)
    if has_limits:
        limits = numbers[middle + width :].reshape(2, width)
    if has_limits and rungs:
        variances = np.frombuffer(payload, dtype="<f8", offset=whole).reshape(rungs, -1)
    linear = Linear(linked, numbers[:scores], coefficients, numbers[middle : middle + width], variances, limits)
    return Model(encoder, linear, classes)


def _dump_seasonal(seasonal: Seasonal, header: bytes) -> bytes:
    cells, scores = seasonal.cells, seasonal.values.shape[1]
    place = seasonal.column, seasonal.columns
    start = _SEASONAL.pack(FIRST, scores, *place, cells.period, cells.step, len(header))
    return start + header + seasonal.values.astype("<f8").tobytes()


def _load_seasonal(payload: bytes) -> Model:
    _, scores, column, columns, period, step, length = _SEASONAL.unpack_from(payload)
    body, cells = _SEASONAL.size + length, Cells(period, step)
    if len(payload) != (whole := body + 8 * scores * (len(cells) + 1)):
        raise Corrupt(f"codec seasonal: expected {whole} bytes; got {len(payload)}")
    encoder, classes, width = _header(payload[_SEASONAL.size : body])
    n_scores = 1 if classes is None else len(classes)
    if scores != n_scores or scores < 1 or columns not in {4, 6} or column + columns > width:
        raise Corrupt("codec seasonal: expected arrays that fit the features and classes; got others")
    values = np.frombuffer(payload, dtype="<f8", offset=body).reshape(len(cells) + 1, scores)
    return Model(encoder, Seasonal(cells, column, columns, values), classes)


def _load_other(codec: str, payload: bytes) -> Model:
    _, length = _OTHER.unpack_from(payload)
    body = _OTHER.size + length
    if body > len(payload):
        raise Corrupt(f"codec {codec}: expected at least {body} bytes; got {len(payload)}")
    encoder, classes, _ = _header(payload[_OTHER.size : body])
    return Model(encoder, _estimator(codec, payload[body:]), classes)


def _estimator(codec: str, payload: bytes) -> Any:
    if codec == ARRAYS:
        from spinney.core.models.arrays import arrays_codec

        return arrays_codec.unpack(payload)
    return pickle.loads(payload) if codec == PICKLE else skops_codec.unpack(payload)  # noqa: S301 - allowed by the caller


_LAST_HEADER: list[tuple[Encoder | None, tuple[str, ...] | None, bytes]] = [(None, None, b"")]
"""The last encoder and classes with their header. Groups often share an encoder, and hashing it is the slowest part."""


def _header_bytes(encoder: Encoder, classes: tuple[str, ...] | None) -> bytes:
    known, its_classes, header = _LAST_HEADER[0]
    if encoder is not known or classes is not its_classes:
        header = _header_text(encoder, classes)
        _LAST_HEADER[0] = (encoder, classes, header)
    return header


@lru_cache(maxsize=1024)
def _header_text(encoder: Encoder, classes: tuple[str, ...] | None) -> bytes:
    data = encoder.as_data() if classes is None else {**encoder.as_data(), "classes": list(classes)}
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()


@lru_cache(maxsize=1024)
def _header(text: bytes) -> Header:
    """Parse a header. Models of one recipe mostly share one: it is parsed once and their encoder is one object."""
    data = json.loads(text)
    classes = data.get("classes")
    encoder = Encoder.from_data(data)
    return encoder, None if classes is None else tuple(map(str, classes)), encoder.width
