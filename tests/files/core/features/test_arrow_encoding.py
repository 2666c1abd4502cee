from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from spinney.core.arrow_types import arrow_type
from spinney.core.errors import ContractError
from spinney.core.features.arrow_encoding import table_to_columns
from spinney.core.features.encoding import to_columns
from spinney.core.recipes.recipe import Feature
from spinney.tables.arrow_schemas import to_pandas


def test_a_table_has_the_same_features_as_its_frame() -> None:
    values = {
        "double": [1.5, None, -0.0], "float": [0.1, None, 2.0], "bigint": [1 << 40, None, 3], "int": [1, 2, 3],
        "boolean": [True, None, False], "string": ["b", None, "a"], "decimal(8,2)": [Decimal("1.25"), None, Decimal(3)],
        "date": [date(2024, 5, 31), None, date(9999, 12, 31)],
        "timestamp": [datetime(2024, 5, 31, 10, 30, tzinfo=UTC), None, datetime(1969, 1, 1, tzinfo=UTC)],
    }  # fmt: skip
    rows = pa.table({kind: pa.array(mine, arrow_type(kind)) for kind, mine in values.items()})
    features = tuple(Feature(kind, kind) for kind in values)
    for some in (rows, rows.slice(0, 1), rows.slice(1, 1), rows.slice(0, 0)):
        found, expected = table_to_columns(some, features), to_columns(to_pandas(some), features)
        np.testing.assert_array_equal(found.numbers, expected.numbers)
        assert (found.codes.tolist(), found.words) == (expected.codes.tolist(), expected.words)


def test_a_feature_that_the_table_does_not_have_is_named() -> None:
    with pytest.raises(ContractError, match=r"features: expected \['b'\] as columns; got \['a'\]"):
        table_to_columns(pa.table({"a": [1.0]}), (Feature("a", "double"), Feature("b", "double")))
