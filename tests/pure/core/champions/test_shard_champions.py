from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.champions.champion_selection import select_champion
from spinney.core.champions.promotion import Promotion
from spinney.core.champions.shard_champions import CODEC, SCHEMA, Champions
from spinney.core.errors import Corrupt
from spinney.core.state_codec import decode_batch, encode_batch

A, B = '["a"]', '["b"]'
CARRIED = Promotion(2, "m1", "promoted", 10, 20, 30, "stream-7", "linear", b"\x00payload\xff", b"signature")
FETCHED = Promotion(0, "m2", "unproven", 11, 21, heldout_losses=b"\x00\x00\x80\x3f")


def champion_of(champions: Champions, group_key: str) -> Promotion | None:
    return select_champion(champions.promotions.get(group_key, ()))


def test_no_group_has_a_champion_at_first() -> None:
    assert champion_of(Champions.empty(), A) is None


def test_each_group_has_its_own_champion() -> None:
    champions = Champions.empty().with_promotions([(A, CARRIED), (B, FETCHED)])
    assert (champion_of(champions, A), champion_of(champions, B)) == (CARRIED, FETCHED)


def test_the_next_champions_leave_the_ones_before_as_they_were() -> None:
    before = Champions.empty().with_promotions([(A, CARRIED)])
    before.with_promotions([(A, Promotion(3, "m3", "promoted", 1, 1))])
    assert champion_of(before, A) == CARRIED


def test_promotions_seen_twice_change_nothing() -> None:
    once = Champions.empty().with_promotions([(A, CARRIED), (B, FETCHED)])
    assert once.with_promotions([(B, FETCHED), (A, CARRIED)]) == once


def test_a_group_that_was_only_refused_takes_no_place() -> None:
    assert Champions.empty().with_promotions([(A, Promotion(0, "m", "refused", 1, 1))]) == Champions.empty()


@pytest.mark.parametrize(
    "champions",
    [Champions.empty(), Champions.empty().with_promotions([(A, CARRIED), (A, FETCHED), ('["ü\\"",null]', FETCHED)])],
)
def test_champions_survive_as_bytes(champions: Champions) -> None:
    assert Champions.from_bytes(champions.to_bytes()) == champions
    assert Champions.from_bytes(memoryview(champions.to_bytes())) == champions


PROMOTIONS = st.builds(
    Promotion,
    st.integers(0, 2),
    st.sampled_from("abcde"),
    st.sampled_from(["promoted", "unproven", "withdrawn", "pinned", "kept"]),
    st.integers(0, 2**60),
    st.integers(0, 2**60),
    st.integers(0, 2**60),
    st.text(max_size=5),
    st.none() | st.just("linear"),
    st.none() | st.binary(max_size=9),
    st.none() | st.binary(max_size=9),
    st.none() | st.binary(max_size=9),
)


@given(st.lists(st.tuples(st.text(max_size=5), PROMOTIONS)))
def test_any_champions_survive_as_bytes(message: list[tuple[str, Promotion]]) -> None:
    champions = Champions.empty().with_promotions(message)
    assert Champions.from_bytes(champions.to_bytes()) == champions


@pytest.mark.parametrize("blob", [b"", b"\x04" + Champions.empty().to_bytes()[1:]])
def test_bytes_of_another_format_are_refused(blob: bytes) -> None:
    with pytest.raises(Corrupt, match=r"state of champions: expected .*format"):
        Champions.from_bytes(blob)


def test_a_state_of_before_held_out_losses_is_read_without_them() -> None:
    columns = ("group_key", "epoch", "model_id", "decision", "trained_through", "fitted_at", "decided_at", "round_id")
    row = (A, 2, "m1", "promoted", 10, 20, 30, "stream-7", "linear", b"\x00payload\xff", b"signature")
    whole, binary = {"epoch", "trained_through", "fitted_at", "decided_at"}, {"payload", "signature"}
    kinds = [
        (name, pa.int64() if name in whole else pa.binary() if name in binary else pa.string())
        for name in (*columns, "codec", "payload", "signature")
    ]
    batch = pa.RecordBatch.from_arrays(
        [pa.array([value], kind) for value, (_, kind) in zip(row, kinds, strict=True)], schema=pa.schema(kinds)
    )
    champions = Champions.from_bytes(b"\x01" + encode_batch(batch))
    assert champions.promotions == {A: (CARRIED,)}
    assert champions.to_bytes()[0] == 3


def test_broken_bytes_are_refused() -> None:
    with pytest.raises(Corrupt):
        Champions.from_bytes(Champions.empty().with_promotions([(A, CARRIED)]).to_bytes()[:-200])


def test_a_state_that_was_written_without_compression_is_read() -> None:
    champions = Champions.empty().with_promotions((f'["{number}"]', CARRIED) for number in range(200))
    compressed = champions.to_bytes()
    plain = CODEC.pack(encode_batch(decode_batch(CODEC.unpack(compressed), SCHEMA)))
    assert Champions.from_bytes(plain).promotions == champions.promotions
    assert Champions.from_bytes(compressed).promotions == champions.promotions
    assert len(compressed) < len(plain) / 3
