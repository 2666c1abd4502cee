"""Serialize fitted scikit-learn estimators with skops, and load them under our own list of allowed types.

skops writes memory addresses, times and struct padding into its file, so equal estimators would give different bytes.
They are removed here.
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
        "spinney.core.filled.Filled",  # module names in stored models, from before the modules moved
        "spinney.core.imported.Imported",
        "spinney.core.models.filled.Filled",
        "spinney.core.models.imported.Imported",
    }
)
"""Types allowed in addition to those that skops trusts (scikit-learn's public estimators, NumPy, SciPy's functions).

The list is never taken from a file. Trees are included only because a payload's signature is verified first: a forged
tree can crash the process.
"""

MAX_BYTES = 1 << 28
"""Largest size of one unpacked estimator."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
_REMEDY = "Use an estimator whose fitted state consists of scikit-learn and NumPy objects: pickle is not supported"


def pack(estimator: Any) -> bytes:
    """Serialize an estimator. Raises ContractError if skops cannot write it or it holds types that are not allowed."""
    from skops import io as skops_io  # takes half a second: a process with linear models only does not need it
    from skops.io.exceptions import UnsupportedTypeException

    name = type(estimator).__name__
    try:
        raw = skops_io.dumps(estimator)
        strange = sorted(set(skops_io.get_untrusted_types(data=raw)) - ALLOWED)
    except (UnsupportedTypeException, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ContractError(f"codec skops: {name}: expected one that can be written; got {error}. {_REMEDY}") from error
    if strange:
        raise ContractError(f"codec skops: {name}: expected allowed types; got {strange}. {_REMEDY}")
    return zlib.compress(_canonical(raw), 6)


def unpack(payload: bytes) -> Any:
    """Load an estimator.

    Raises Corrupt if the bytes are not a skops file, or name types that are not allowed; this is checked before any
    type is imported.
    """
    try:
        unpacking = zlib.decompressobj()
        raw = unpacking.decompress(payload, MAX_BYTES)
        if unpacking.unconsumed_tail or not unpacking.eof:
            raise Corrupt(f"codec skops: expected at most {MAX_BYTES} bytes, whole; got more or fewer")
    except zlib.error as error:
        raise Corrupt(f"codec skops: expected bytes that can be read; got {type(error).__name__}: {error}") from error
    return read(raw)


def read(raw: bytes) -> Any:
    """Load an estimator from a file as skops writes it. Raises like `unpack`."""
    from skops import io as skops_io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops_io.loads(raw, trusted=sorted(ALLOWED))
    except UntrustedTypesFoundException as error:
        raise Corrupt(f"codec skops: expected allowed types; got {error}") from error
    except Exception as error:  # an invalid file may fail anywhere in the parser
        raise Corrupt(f"codec skops: expected bytes that can be read; got {type(error).__name__}: {error}") from error


def _canonical(raw: bytes) -> bytes:
    """The same skops file with consecutive numbers instead of addresses, without times and padding."""
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
    """Number ids and files, in place, in the order in which they occur."""
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
    """A structured array with zeros as padding; any other array unchanged."""
    array = np.load(io.BytesIO(npy), allow_pickle=False)
    if not array.dtype.names:
        return npy
    clean = np.zeros(array.shape, dtype=array.dtype)
    for name in array.dtype.names:
        clean[name] = array[name]
    out = io.BytesIO()
    np.save(out, clean, allow_pickle=False)
    return out.getvalue()
