from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.champions.held_out_loss_arrays import pack_column, to_matrix
from spinney.core.champions.held_out_loss_codec import loss_of, pack, unpack
from spinney.core.champions.promotion import Promotion


def test_losses_are_four_bytes_each() -> None:
    assert pack([1.0, 2.5]) == b"\x00\x00\x80\x3f\x00\x00\x20\x40"
    assert unpack(pack([1.0, 2.5])) == [1.0, 2.5]


@pytest.mark.parametrize("losses", [[1.0, 2.5], np.array([1.0, 2.5]), np.array([1.0, 2.5], dtype="f4"), (1.0, 2.5)])
def test_a_promotion_packs_the_losses_of_its_row_however_they_come(losses) -> None:
    assert Promotion.from_row({"heldout_losses": losses}).heldout_losses == pack([1.0, 2.5])


@pytest.mark.parametrize("row", [{}, {"heldout_losses": None}, {"heldout_losses": float("nan")}])
def test_a_promotion_of_a_row_without_losses_has_none(row) -> None:
    assert Promotion.from_row(row).heldout_losses is None


def test_a_column_of_lists_is_packed_row_by_row_also_when_it_is_a_part_of_another() -> None:
    lists = [[9.0], [1.0, 2.0], None, [], [3.0]]
    column = pa.chunked_array(
        [pa.array(lists[:2], pa.list_(pa.float32())), pa.array(lists[2:], pa.list_(pa.float32()))]
    )
    assert pack_column(column.slice(1)) == [pack([1.0, 2.0]), None, b"", pack([3.0])]
    assert pack_column(pa.nulls(2)) == [None, None]


def test_a_matrix_has_a_row_per_model_and_leaves_out_what_is_not_finite() -> None:
    found = to_matrix([pack([1.0, np.inf, 2.0]), None, pack([np.nan]), pack([4.0])])
    np.testing.assert_array_equal(found[:, :3], [[1, 2, np.nan], [np.nan] * 3, [np.nan] * 3, [4, np.nan, np.nan]])
    assert found.shape == (4, 8)
    assert to_matrix([]).shape == (0, 8)


@pytest.mark.parametrize("name", [None, "absolute", "squared", "log"])
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=5))
def test_packed_losses_keep_the_name_of_their_loss(name: str | None, losses: list[float]) -> None:
    packed = pack(losses, name)
    assert (unpack(packed), loss_of(packed)) == (losses, name)
    assert pack(packed, "log") is packed
    kinds = pa.list_(pa.float32())
    names = pa.chunked_array([[name, "squared"]], pa.string())
    assert pack_column(pa.array([losses, None], kinds), names) == [packed, None]
    matrix = to_matrix([packed, pack([1.0])])
    assert matrix[0][~np.isnan(matrix[0])].tolist() == losses
