"""A fitted scikit-learn estimator as bytes, by skops, and back under our own list of types.

skops writes memory addresses, times and the padding of structs into its file, so the same estimator gives other bytes
each time. They are taken out here: equal estimators are equal bytes.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from typing import Any

import numpy as np

from spinney.core.errors import ContractError, Corrupt

ALLOWED = frozenset(
    {
        "numpy.dtype",
        "scipy.interpolate._bsplines.BSpline",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.metrics._dist_metrics.MinkowskiDistance64",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
        "spinney.core.filled.Filled",  # as stored before the module moved
        "spinney.core.imported.Imported",
        "spinney.core.models.filled.Filled",
        "spinney.core.models.imported.Imported",
    }
)
"""Types allowed beyond those that skops itself trusts (scikit-learn's public estimators, NumPy, SciPy's functions).

Never taken from a file. Trees are among them only because a payload's signature is verified first: a forged tree can
crash the process.
"""

MAX_BYTES = 1 << 28
"""Of one estimator, unpacked."""

_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(estimator: Any) -> bytes:
    """Raises ContractError if the estimator holds what skops cannot write or ALLOWED does not name."""
    from skops import io as skops_io  # half a second: a worker that knows linear models only never pays it
    from skops.io.exceptions import UnsupportedTypeException

    name = type(estimator).__name__
    try:
        raw = skops_io.dumps(estimator)
        strange = sorted(set(skops_io.get_untrusted_types(data=raw)) - ALLOWED)
    except (UnsupportedTypeException, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ContractError(
            f"codec skops: {name}: expected one that can be written; got {error}. Allow pickle for it"
        ) from error
    if strange:
        raise ContractError(f"codec skops: {name}: expected allowed types; got {strange}. Allow pickle for it")
    return zlib.compress(_canonical(raw), 6)


def unpack(payload: bytes) -> Any:
    """Raises Corrupt for anything that is not an estimator of allowed types. No type is imported before that."""
    try:
        unpacking = zlib.decompressobj()
        raw = unpacking.decompress(payload, MAX_BYTES)
        if unpacking.unconsumed_tail or not unpacking.eof:
            raise Corrupt(f"codec skops: expected at most {MAX_BYTES} bytes, whole; got more or fewer")
    except zlib.error as error:
        raise Corrupt(f"codec skops: expected bytes that can be read; got {type(error).__name__}: {error}") from error
    return read(raw)


def read(raw: bytes) -> Any:
    """The estimator in a file as skops writes it. Raises like `unpack`; what the file says it may hold is not asked."""
    from skops import io as skops_io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops_io.loads(raw, trusted=sorted(ALLOWED))
    except UntrustedTypesFoundException as error:
        raise Corrupt(f"codec skops: expected allowed types; got {error}") from error
    except Exception as error:  # a hostile file may fail anywhere in the parser
        raise Corrupt(f"codec skops: expected bytes that can be read; got {type(error).__name__}: {error}") from error


def _canonical(raw: bytes) -> bytes:
    """The same skops file with numbers for addresses, no times and no stray bytes."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        schema = json.loads(archive.read("schema.json"))
        files = {name: archive.read(name) for name in archive.namelist() if name != "schema.json"}
    renamed: dict[str, str] = {}
    _renumber(schema, {}, renamed, files)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for old, new in renamed.items():
            archive.writestr(zipfile.ZipInfo(new, _EPOCH), _without_padding(files[old]) if _is_npy(new) else files[old])
        archive.writestr(zipfile.ZipInfo("schema.json", _EPOCH), json.dumps(schema, separators=(",", ":")))
    return out.getvalue()


def _renumber(node: Any, ids: dict[Any, int], renamed: dict[str, str], files: dict[str, bytes]) -> None:
    """Name ids and files, in place, by the order in which they come."""
    if isinstance(node, list):
        for child in node:
            _renumber(child, ids, renamed, files)
    if not isinstance(node, dict):
        return
    for name, child in node.items():
        if name == "__id__" and isinstance(child, int):
            node[name] = ids.setdefault(child, len(ids) + 1)
        elif isinstance(child, str) and name == "file" and child in files:
            node[name] = renamed.setdefault(child, f"{len(renamed) + 1}{_suffix(child)}")
        else:
            _renumber(child, ids, renamed, files)


def _suffix(name: str) -> str:
    return name[name.rindex(".") :] if "." in name else ""


def _is_npy(name: str) -> bool:
    return name.endswith(".npy")


def _without_padding(npy: bytes) -> bytes:
    """A structured array's bytes with zeros between its fields; any other array's as they are."""
    array = np.load(io.BytesIO(npy), allow_pickle=False)
    if not array.dtype.names:
        return npy
    clean = np.zeros(array.shape, dtype=array.dtype)
    for name in array.dtype.names:
        clean[name] = array[name]
    out = io.BytesIO()
    np.save(out, clean, allow_pickle=False)
    return out.getvalue()
