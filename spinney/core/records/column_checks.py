"""Find the rows whose typed columns may break a rule. They are *doubtful*: `validate` decides about each of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.messages import MAX_ID_CHARACTERS
from spinney.core.records import control_characters
from spinney.core.records.columns import Mask, Typed, has_control_bytes, outside, union
from spinney.core.records.rules import FieldRule, Rules


def doubtful_rows(
    rules: Rules, column_of: Callable[[FieldRule], Typed], latest_us: int | npt.NDArray[np.int64], rows: int
) -> Mask:
    """Return the mask of the rows that are not surely valid, shape (rows,).

    column_of: gives a rule's column. latest_us: the latest time that a record may have, in microseconds since 1970;
    one for all rows, or shape (rows,).
    """
    found = [(rule, column_of(rule)) for rule in rules.fields]
    masks = [column.doubtful for _, column in found]
    masks += [_missing(column.values) for rule, column in found if rule.required]
    masks += [_odd_texts(column.values) for rule, column in found if rule.identity and rule.type == "string"]
    masks += [
        outside(column.values, rule.low, rule.high)
        for rule, column in found
        if rule.low is not None and rule.high is not None
    ]
    return union([*masks, _untimely(column_of(rules.field_of(rules.time)).values, latest_us)], rows)


def _missing(values: pa.Array) -> Mask | None:
    return np.asarray(values.is_null()) if values.null_count else None


def _odd_texts(texts: pa.Array) -> Mask | None:
    """Which are empty, too long or have a control character. texts: UTF-8, or null."""
    if texts.null_count == len(texts):
        return None
    sizes = np.asarray(pc.binary_length(texts).fill_null(1))
    # No text has more characters than bytes, so one that is doubted without need costs its check and nothing else.
    doubtful: Mask = (sizes == 0) | (sizes > MAX_ID_CHARACTERS)
    if has_control_bytes(texts):
        doubtful |= np.asarray(pc.match_substring_regex(texts, control_characters.PATTERN).fill_null(False))
    return doubtful


def _untimely(times: pa.Array, latest_us: int | npt.NDArray[np.int64]) -> Mask:
    micros = np.asarray(times.cast(pa.int64()).fill_null(0))
    late: Mask = (micros < 0) | (micros > latest_us)
    return late
