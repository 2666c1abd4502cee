"""Mark the rows whose typed columns may break a rule. These rows are *doubtful*: `validate` decides about each of
them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.messages import MAX_ID_CHARACTERS
from spinney.core.records import control_characters
from spinney.core.records.column_conversion import Mask, TypedColumn, has_control_bytes, outside_range_mask, union_masks
from spinney.core.records.rules import FieldRule, RecordRules


def doubtful_mask(
    rules: RecordRules, column_of: Callable[[FieldRule], TypedColumn], latest_us: int | npt.NDArray[np.int64], rows: int
) -> Mask:
    """Return the mask of rows that are not certainly valid, shape (rows,).

    column_of: returns the column of a rule. latest_us: the latest event time that a record may have, in microseconds
    since 1970; one number for all rows, or shape (rows,).
    """
    found = [(rule, column_of(rule)) for rule in rules.fields]
    masks = [column.doubtful for _, column in found]
    masks += [_null_mask(column.values) for rule, column in found if rule.required]
    masks += [_invalid_id_mask(column.values) for rule, column in found if rule.identity and rule.type == "string"]
    masks += [
        outside_range_mask(column.values, rule.low, rule.high)
        for rule, column in found
        if rule.low is not None and rule.high is not None
    ]
    return union_masks([*masks, _outside_time_mask(column_of(rules.rule_of(rules.time)).values, latest_us)], rows)


def _null_mask(values: pa.Array) -> Mask | None:
    """Return the mask of nulls, shape (rows,); None if there are none."""
    return np.asarray(values.is_null()) if values.null_count else None


def _invalid_id_mask(texts: pa.Array) -> Mask | None:
    """Return the mask of texts that are empty, too long or contain a control character. texts: UTF-8; nulls are not
    marked.
    """
    if texts.null_count == len(texts):
        return None
    sizes = np.asarray(pc.binary_length(texts).fill_null(1))
    # A text has at most as many characters as bytes. One that is doubtful without need only costs its validation.
    doubtful: Mask = (sizes == 0) | (sizes > MAX_ID_CHARACTERS)
    if has_control_bytes(texts):
        doubtful |= np.asarray(pc.match_substring_regex(texts, control_characters.PATTERN).fill_null(False))
    return doubtful


def _outside_time_mask(times: pa.Array, latest_us: int | npt.NDArray[np.int64]) -> Mask:
    """Return the mask of times before 1970 or after `latest_us`, shape (rows,)."""
    micros = np.asarray(times.cast(pa.int64()).fill_null(0))
    late: Mask = (micros < 0) | (micros > latest_us)
    return late
