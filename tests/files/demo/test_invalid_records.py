from __future__ import annotations

import json

import pytest

from demo.invalid_records import INVALID_RECORDS, ValidEvent, make_invalid, record_digest
from schemas.messages import MAX_RECORD_BYTES
from schemas.vocabulary import DeadLetterReason
from spinney.core.errors import ConfigError

RECORD = {"id": "x", "at": "2020-01-01T00:00:00Z", "hall": "A", "number": 1, "load": 3.5}


@pytest.fixture
def valid(config):
    return ValidEvent(b"key", RECORD, config)


def test_there_is_a_way_to_earn_every_reason():
    assert set(INVALID_RECORDS) == set(DeadLetterReason)


@pytest.mark.parametrize("reason", DeadLetterReason)
def test_two_of_a_kind_differ_in_their_bytes(valid, reason):
    assert record_digest(*make_invalid(valid, reason, "one")) != record_digest(*make_invalid(valid, reason, "two"))


def test_each_is_bad_in_the_way_it_says(valid):
    def value(reason):
        return make_invalid(valid, DeadLetterReason(reason), "n")[1]

    assert value("null_value") is None
    assert len(value("too_large")) > MAX_RECORD_BYTES
    with pytest.raises(UnicodeDecodeError):
        value("not_utf8").decode()
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(value("not_json"))
    pairs = json.loads(value("duplicate_field"), object_pairs_hook=list)
    assert [name for name, _ in pairs].count("id") == 2
    assert json.loads(value("not_an_object")) == ["n"]
    assert "at" not in json.loads(value("missing_field"))
    assert json.loads(value("null_key"))["hall"] is None
    assert json.loads(value("wrong_type"))["load"] == "many"
    assert json.loads(value("not_finite"))["load"] == float("inf")
    assert json.loads(value("empty_id"))["id"] == ""
    assert len(json.loads(value("id_too_long"))["id"]) == 513
    assert json.loads(value("control_character"))["id"] == "n\u0007"
    assert json.loads(value("out_of_range"))["load"] == 101
    assert json.loads(value("time_out_of_range"))["at"].startswith("2099")


def test_a_kind_that_the_fleet_cannot_have_is_refused(config, valid):
    fleet = config.fleet.model_copy(update={"ranges": {}})
    bare = ValidEvent(b"key", RECORD, config.model_copy(update={"fleet": fleet}))
    with pytest.raises(ConfigError, match=r"fleet\.ranges"):
        make_invalid(bare, DeadLetterReason.OUT_OF_RANGE, "n")


def test_no_bytes_and_empty_bytes_are_two_things():
    assert (
        len({record_digest(None, b""), record_digest(b"", None), record_digest(b"", b""), record_digest(None, None)})
        == 4
    )
