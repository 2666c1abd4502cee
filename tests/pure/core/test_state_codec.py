from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core import state_codec
from spinney.core.errors import Corrupt

NUMBERS = pa.schema([("n", pa.int64())])


@given(st.lists(st.binary(max_size=40), max_size=255))
def test_sections_joined_are_split_into_the_same_sections(sections: list[bytes]) -> None:
    assert [bytes(section) for section in state_codec.split(state_codec.join(sections))] == sections


@pytest.mark.parametrize(
    "blob", [b"", b"\x01", b"\x01\x00\x00", state_codec.join([b"abc"])[:-1], state_codec.join([b"abc"]) + b"x"]
)
def test_a_blob_whose_lengths_do_not_add_up_is_refused(blob: bytes) -> None:
    with pytest.raises(Corrupt, match="Start from a new checkpoint"):
        state_codec.split(blob)


@pytest.mark.parametrize("values", [[], [1, None, 3]])
def test_a_batch_survives_as_bytes_also_when_empty(values: list[int | None]) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(values, pa.int64())], names=["n"])
    assert state_codec.ipc_batch(state_codec.ipc_bytes(batch), NUMBERS) == batch


@pytest.mark.parametrize("blob", [b"", b"no arrow", state_codec.ipc_bytes(pa.record_batch({"n": [1]}))[:100]])
def test_bytes_that_are_no_batch_are_refused(blob: bytes) -> None:
    with pytest.raises(Corrupt, match="Start from a new checkpoint"):
        state_codec.ipc_batch(blob, NUMBERS)


def test_a_batch_of_other_columns_is_refused_with_what_it_has() -> None:
    blob = state_codec.ipc_bytes(pa.record_batch({"n": ["text"]}))
    with pytest.raises(Corrupt, match=r"state: expected columns n; got n string\. Start from a new checkpoint"):
        state_codec.ipc_batch(blob, NUMBERS)


def test_a_blob_of_the_right_format_is_its_body() -> None:
    assert bytes(state_codec.unformatted(b"\x01body", b"\x01", "things")) == b"body"


@pytest.mark.parametrize("blob", [b"", b"\x02body"])
def test_a_blob_of_another_format_is_refused(blob: bytes) -> None:
    with pytest.raises(Corrupt, match=r"state of things: expected format b'\\x01'; got"):
        state_codec.unformatted(blob, b"\x01", "things")
