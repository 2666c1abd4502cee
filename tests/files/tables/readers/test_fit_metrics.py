from __future__ import annotations

import json

import pyarrow as pa

from spinney.tables.readers.fit_metrics import MEASURES, parse_measures


def test_measures_are_read_line_by_line_and_other_fields_do_not_matter() -> None:
    whole = {"heldout_rows": 12, "challenger_loss": 1, "constant_loss": 2.5, "shadow": {"error": "a\nline", "loss": 3}}
    watched = {"champion_id": "c", "watched_rows": 4, "watched_champion_loss": 1, "predecessor_loss": 2.5}
    texts = [json.dumps(whole), None, "{}", json.dumps({"challenger_loss": None, "constant_loss": 7.0} | watched)]
    none = dict.fromkeys(MEASURES.names)
    assert parse_measures(pa.chunked_array([pa.array(texts)])).to_pylist() == [
        none | {"heldout_rows": 12, "challenger_loss": 1.0, "constant_loss": 2.5},
        none,
        none,
        none | {"constant_loss": 7.0} | watched,
    ]


def test_without_a_fit_there_are_no_measures() -> None:
    assert len(parse_measures(pa.chunked_array([], pa.string()))) == 0
