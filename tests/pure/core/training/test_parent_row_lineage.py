"""Which groups and parents a parent's rows come from."""

from __future__ import annotations

import numpy as np
import pytest

from spinney.core.training.parent_row_lineage import lineage_codes, rung_of

LADDER = (("region", "city", "store"), ("region", "city"), ("region",), ())
NORTH = ['["n","a","1"]', '["n","b","1"]', '["n","a","2"]', '["n","a","1"]']


def test_each_row_has_a_number_for_its_group_and_for_each_parent_below_the_owner() -> None:
    keys = ['{"region":"n"}', "{}"]
    codes = lineage_codes(keys, np.array([0, 0, 0, 0, 1, 1]), np.array([*NORTH, *NORTH[:2]], dtype=object), LADDER)
    # The sorted groups are n a 1, n a 2 and n b 1; the cities n a and n b; there is one region.
    assert codes.tolist() == [[0, 0, -1], [2, 1, -1], [1, 0, -1], [0, 0, -1], [0, 0, 0], [2, 1, 0]]


def test_a_groups_own_rows_have_no_number() -> None:
    codes = lineage_codes([NORTH[0]], np.zeros(2, np.int64), np.array(NORTH[:1] * 2, dtype=object), LADDER)
    assert (codes == -1).all()


def test_a_column_that_is_null_is_a_value_of_its_own() -> None:
    origins = np.array(['["n",null,"1"]', '["n","None","1"]'], dtype=object)
    codes = lineage_codes(["{}"], np.zeros(2, np.int64), origins, LADDER)
    assert codes[0, 1] != codes[1, 1]


@pytest.mark.parametrize(
    ("key", "rung"),
    [
        (NORTH[0], 0),
        ('{"region":"n","city":"a"}', 1),
        ('{"region":"n"}', 2),
        ("{}", 3),
        ('{"city":"a"}', None),
    ],
)
def test_the_rung_is_that_of_the_same_columns(key: str, rung: int | None) -> None:
    assert rung_of(key, LADDER) == rung
