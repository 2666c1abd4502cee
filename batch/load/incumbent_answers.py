"""What the present system answered, out of the column `prediction` of loaded events."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.stores import layout
from spinney.stores.arrow import arrow_type

ANSWER = "prediction"

_NUMBERS = re.compile(r"tinyint|smallint|int|bigint|float|double|decimal\(.*")
_NAMES = {
    pa.string(): "string",
    pa.large_string(): "string",
    pa.bool_(): "boolean",
    pa.int8(): "tinyint",
    pa.uint8(): "smallint",
    pa.int16(): "smallint",
    pa.uint16(): "int",
    pa.int32(): "int",
    pa.uint32(): "bigint",
    pa.int64(): "bigint",
    pa.float32(): "float",
    pa.float64(): "double",
}
_BITS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}


def wanted(config: Config) -> str:
    """The Spark type that answers are stored from."""
    return "double" if config.fleet.task == "regression" else config.target_type


def refuse_other_type(kind: str, config: Config, source: str) -> None:
    """kind: the column's Spark type. Raises StoreError where no answer can be of it."""
    target = wanted(config)
    fits = kind == target if target in ("string", "boolean") else _NUMBERS.fullmatch(kind)
    if not fits:
        raise StoreError(
            f"load: {source}: column {ANSWER}: expected {target}, what the present system answered; got {kind}. "
            "Convert it, or rename it if it is something else"
        )


def no_class(odd: str, config: Config, source: str) -> StoreError:
    return StoreError(
        f"load: {source}: column {ANSWER}: expected {wanted(config)}, the class that the present system answered; got "
        f"{odd}. Convert it (a probability is no class), or rename it if it is something else"
    )


def spark_name(kind: pa.DataType) -> str | None:
    """The Spark type of a column of answers; None where Spark has to read it."""
    if types.is_dictionary(kind):
        return spark_name(kind.value_type)
    return _NAMES.get(kind)


def stored(column: pa.Array, config: Config, source: str) -> pa.Array:
    """Answers as the table has them; null where the present system said nothing, or no finite number.

    column: `plain`, of a type that was not refused. Raises StoreError for a number that is no class.
    """
    kind = arrow_type(layout.answer_type(config))
    if column.null_count == len(column):
        return pa.nulls(len(column), kind)
    if config.fleet.task == "regression":
        numbers = column.cast(pa.float64(), safe=False)
        finite = np.isfinite(np.asarray(numbers.fill_null(np.nan)))
        return pc.if_else(pa.array(finite), numbers, pa.scalar(None, pa.float64()))
    target = config.target_type
    if target in _BITS:
        _refuse_no_class(column, config, source)
        column = column.cast(arrow_type(target), safe=False)
    return column.cast(kind)


def _refuse_no_class(column: pa.Array, config: Config, source: str) -> None:
    numbers = np.asarray(column.fill_null(0))
    half = 2 ** (_BITS[config.target_type] - 1)
    if types.is_floating(column.type):
        odd = ~((numbers == np.trunc(numbers)) & (numbers >= -float(half)) & (numbers < float(half)))
    else:
        odd = (numbers < -half) | (numbers > half - 1)
    if odd.any():
        raise no_class(_text(numbers[odd][0]), config, source)


def _text(number: Any) -> str:
    """As Java writes it."""
    if not isinstance(number, np.floating):
        return str(number)
    if np.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    if 1e-3 <= abs(number) < 1e7:
        return np.format_float_positional(number, unique=True, trim="0")
    return (
        np.format_float_scientific(number, unique=True, trim="0", exp_digits=1).replace("e+", "E").replace("e-", "E-")
    )
