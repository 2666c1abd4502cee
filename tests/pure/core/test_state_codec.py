from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core import state_codec
from spinney.core.errors import Corrupt, UnknownFormat
from spinney.core.state_codec import Body, StateCodec
from spinney.core.stored_formats import StoredFormat

NUMBERS = pa.schema([("n", pa.int64())])


@given(st.lists(st.binary(max_size=40), max_size=255))
def test_sections_joined_are_split_into_the_same_sections(sections: list[bytes]) -> None:
    assert [bytes(section) for section in state_codec.split_sections(state_codec.join_sections(sections))] == sections


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\x01",
        b"\x01\x00\x00",
        state_codec.join_sections([b"abc"])[:-1],
        state_codec.join_sections([b"abc"]) + b"x",
    ],
)
def test_a_blob_whose_lengths_do_not_add_up_is_refused(blob: bytes) -> None:
    with pytest.raises(Corrupt, match="Restore the fleet's root"):
        state_codec.split_sections(blob)


@pytest.mark.parametrize("values", [[], [1, None, 3]])
def test_a_batch_survives_as_bytes_also_when_empty(values: list[int | None]) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(values, pa.int64())], names=["n"])
    assert state_codec.decode_batch(state_codec.encode_batch(batch), NUMBERS) == batch


@pytest.mark.parametrize("blob", [b"", b"no arrow", state_codec.encode_batch(pa.record_batch({"n": [1]}))[:100]])
def test_bytes_that_are_no_batch_are_refused(blob: bytes) -> None:
    with pytest.raises(Corrupt, match="Restore the fleet's root"):
        state_codec.decode_batch(blob, NUMBERS)


def test_a_batch_of_other_columns_is_refused_with_what_it_has() -> None:
    blob = state_codec.encode_batch(pa.record_batch({"n": ["text"]}))
    with pytest.raises(Corrupt, match=r"state: expected columns n int64; got n string\. Restore the fleet's root"):
        state_codec.decode_batch(blob, NUMBERS)


GROWN = pa.schema([("n", pa.int64()), ("new", pa.float64()), ("m", pa.string())])
OLD = {"n": pa.array([1, 2]), "m": pa.array(["a", None])}


def test_columns_that_an_earlier_version_lacks_are_added_at_their_places() -> None:
    old = state_codec.encode_batch(pa.record_batch(OLD))
    grown = state_codec.decode_batch(state_codec.add_missing_columns(old, GROWN, {"new": 0.5, "m": ""}), GROWN)
    assert grown.to_pydict() == {"n": [1, 2], "new": [0.5, 0.5], "m": ["a", None]}


def test_a_column_added_without_an_initial_value_is_null() -> None:
    old = state_codec.encode_batch(pa.record_batch(OLD))
    grown = state_codec.decode_batch(state_codec.add_missing_columns(old, GROWN, {"new": None}), GROWN)
    assert grown.column("new").to_pylist() == [None, None]


@pytest.mark.parametrize(
    "stored",
    [{"m": OLD["m"]}, {**OLD, "n": pa.array([1.0, 2.0])}, {**OLD, "other": OLD["n"]}, {"m": OLD["m"], "n": OLD["n"]}],
    ids=["one is missing", "one has another type", "one is unknown", "another order"],
)
def test_columns_that_are_not_those_of_an_earlier_version_are_refused(stored: dict[str, pa.Array]) -> None:
    with pytest.raises(Corrupt, match="state: expected columns n int64, m string; got"):
        state_codec.add_missing_columns(state_codec.encode_batch(pa.record_batch(stored)), GROWN, {"new": None})


def codec_of(version: int) -> StateCodec:
    """The codec of a state to which each version has added its own number."""

    def upgrade_to(number: int) -> Callable[[Body], Body]:
        return lambda body: bytes(body) + str(number).encode()

    return StateCodec(StoredFormat("things", version), {number: upgrade_to(number + 1) for number in range(1, version)})


def test_a_state_is_stored_behind_the_version_of_its_format() -> None:
    assert codec_of(1).pack(b"body") == b"\x01body"
    assert bytes(codec_of(1).unpack(b"\x01body")) == b"body"


@pytest.mark.parametrize(("version", "expected"), [(1, b"body"), (2, b"body2"), (4, b"body234")])
def test_a_state_of_an_earlier_version_is_upgraded_step_by_step(version: int, expected: bytes) -> None:
    codec = codec_of(version)
    assert bytes(codec.unpack(codec_of(1).pack(b"body"))) == expected
    assert bytes(codec.unpack(codec.pack(b"body"))) == b"body"


def test_a_version_without_a_function_that_upgrades_it_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"things: expected a function that upgrades each of the versions \[1, 2\]"):
        StateCodec(StoredFormat("things", 3))


def test_a_state_of_a_later_version_is_refused() -> None:
    with pytest.raises(UnknownFormat, match=r"things in format 1 to 2, .* got format 3. .* upgrade Spinney"):
        codec_of(2).unpack(codec_of(3).pack(b"body"))


@pytest.mark.parametrize("blob", [b"", b"\x00body"])
def test_bytes_without_a_version_are_refused(blob: bytes) -> None:
    with pytest.raises(Corrupt, match="things"):
        codec_of(1).unpack(blob)
