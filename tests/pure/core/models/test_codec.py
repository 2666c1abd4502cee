from __future__ import annotations

import io
import json
import pickle
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from spinney.core.errors import ContractError, Corrupt
from spinney.core.features.encoding import Encoder
from spinney.core.models import codec, skops_codec
from spinney.core.models.linear import Linear, Link
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim, Signer
from spinney.core.recipes.recipe import Feature

NUMBERS = tuple(Feature(f"x{i}", "double") for i in range(8))
FRAME = pd.DataFrame(np.random.default_rng(3).normal(size=(40, 8)), columns=[f.name for f in NUMBERS])
LABEL = FRAME["x0"].to_numpy() * 2 + FRAME["x1"].to_numpy()
LINEAR = Model(Encoder(NUMBERS), Linear(Link.IDENTITY, np.array([1.5]), np.arange(8.0)[None], np.full(8, 0.25)))


def test_a_linear_model_of_eight_features_is_a_few_hundred_bytes_in_the_documented_layout() -> None:
    name, payload = codec.dump(LINEAR)
    header = json.dumps({"features": [[f"x{i}", "double"] for i in range(8)]}, separators=(",", ":")).encode()
    assert name == "linear"
    assert payload[:12] == bytes([1, 0, 1, 0, 8, 0, 0, 0]) + len(header).to_bytes(4, "little")
    assert payload[12 : 12 + len(header)] == header
    assert payload[12 + len(header) :] == np.array([1.5, *range(8), *[0.25] * 8], dtype="<f8").tobytes()
    assert len(payload) < 350


def test_a_linear_model_comes_back_as_it_went() -> None:
    features = (*NUMBERS, Feature("s", "string"))
    encoder = Encoder(features, (("a", "ü"),))
    linear = Linear(Link.SOFTMAX, np.arange(3.0), np.arange(30.0).reshape(3, 10), np.arange(10.0))
    back = codec.load(*codec.dump(Model(encoder, linear, ("a", "b", "c"))))
    assert (back.encoder, back.classes) == (encoder, ("a", "b", "c"))
    for name in ("intercept", "coefficients", "fill"):
        np.testing.assert_array_equal(getattr(back.estimator, name), getattr(linear, name))
    assert back.estimator.link is Link.SOFTMAX


def test_the_group_variances_of_a_parent_are_stored_after_the_model_in_format_3() -> None:
    variances = np.arange(22.0).reshape(2, 11)
    parent = Model(LINEAR.encoder, replace(LINEAR.estimator, group_variances=variances))
    (_, without), (name, payload) = codec.dump(LINEAR), codec.dump(parent)
    no_limits = np.repeat([-np.inf, np.inf], 8)
    assert payload == b"\3" + without[1:] + np.concatenate([no_limits, variances.ravel()]).astype("<f8").tobytes()
    np.testing.assert_array_equal(codec.load(name, payload).estimator.group_variances, variances)
    assert codec.load(name, payload).predict(FRAME).tolist() == LINEAR.predict(FRAME).tolist()
    for cut in (payload[:-8], payload[: len(without)], payload[:-1], b"\1" + payload[1:], b"\2" + payload[1:]):
        with pytest.raises(Corrupt, match="codec linear: expected"):
            codec.load(name, cut)


def test_the_limits_of_columns_are_stored_in_format_3() -> None:
    limits = np.stack([np.arange(8.0) - 4, np.arange(8.0) + 4])
    limited = Model(LINEAR.encoder, replace(LINEAR.estimator, limits=limits))
    (_, without), (name, payload) = codec.dump(LINEAR), codec.dump(limited)
    assert payload == b"\3" + without[1:] + limits.astype("<f8").tobytes()
    back = codec.load(name, payload)
    np.testing.assert_array_equal(back.estimator.limits, limits)
    assert back.estimator.group_variances is None
    assert back.predict(FRAME * 3).tolist() == limited.predict(FRAME * 3).tolist()
    assert back.predict(FRAME * 100).tolist() != LINEAR.predict(FRAME * 100).tolist()


def test_a_parent_of_format_2_answers_and_its_groups_are_fitted_without_its_variances() -> None:
    name, without = codec.dump(LINEAR)
    earlier = b"\2" + without[1:] + np.arange(18.0).astype("<f8").tobytes()  # two rungs of an intercept and 8 slopes
    model = codec.load(name, earlier)
    assert model.estimator.group_variances is None
    assert model.predict(FRAME).tolist() == LINEAR.predict(FRAME).tolist()


FITTED = {
    "hist": lambda: HistGradientBoostingRegressor(max_iter=5, random_state=1).fit(FRAME.to_numpy(), LABEL),
    "forest": lambda: RandomForestRegressor(5, random_state=1).fit(FRAME.to_numpy(), LABEL),
    "pipeline": lambda: make_pipeline(StandardScaler(), Ridge()).fit(FRAME.to_numpy(), LABEL),
    "neighbours": lambda: KNeighborsRegressor().fit(FRAME.to_numpy(), LABEL),
}


@pytest.mark.parametrize("name", FITTED)
def test_an_estimator_comes_back_and_answers_the_same(name: str) -> None:
    model = Model(Encoder(NUMBERS), FITTED[name]())
    used, payload = codec.dump(model)
    assert used == ("skops" if name == "neighbours" else "sklearn-arrays")  # k-d trees are not written as arrays
    np.testing.assert_array_equal(codec.load(used, payload).predict(FRAME), model.predict(FRAME))


@pytest.mark.parametrize("name", FITTED)
def test_what_was_stored_by_skops_is_read_and_answers_the_same(name: str) -> None:
    model = Model(Encoder(NUMBERS), FITTED[name]())
    header = json.dumps({"features": [[f"x{i}", "double"] for i in range(8)]}).encode()
    payload = b"\x01" + len(header).to_bytes(4, "little") + header + skops_codec.pack(model.estimator)
    np.testing.assert_array_equal(codec.load("skops", payload).predict(FRAME), model.predict(FRAME))


@pytest.mark.parametrize("name", FITTED)
def test_equal_estimators_are_equal_bytes(name: str) -> None:
    assert skops_codec.pack(FITTED[name]()) == skops_codec.pack(FITTED[name]())


def test_a_file_of_skops_carries_no_time_and_no_stray_bytes() -> None:
    archive = zipfile.ZipFile(io.BytesIO(zlib.decompress(skops_codec.pack(FITTED["forest"]()))))
    assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    padded = np.zeros(2, dtype=np.dtype([("a", "u1"), ("b", "<f8")], align=True))
    dirty = np.full(2 * padded.dtype.itemsize, 0xFF, dtype=np.uint8).view(padded.dtype)
    dirty["a"], dirty["b"] = 0, 0.0
    clean, expected = skops_codec._without_padding(npy(dirty)), npy(padded)
    assert npy(dirty) != expected
    assert clean == expected


def npy(array: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def test_classes_come_back() -> None:
    label = np.where(LABEL > 0, "up", "down").astype(object)
    model = Model(
        Encoder(NUMBERS), RandomForestClassifier(5, random_state=1).fit(FRAME.to_numpy(), label), ("down", "up")
    )
    back = codec.load(*codec.dump(model))
    assert back.predict(FRAME).tolist() == model.predict(FRAME).tolist()
    assert back.classes == ("down", "up")


@given(st.sampled_from(["linear", "sklearn-arrays", "skops"]), st.binary(max_size=200))
def test_foreign_bytes_are_corrupt(name: str, payload: bytes) -> None:
    with pytest.raises(Corrupt):
        codec.load(name, payload)


@given(st.integers(0, 300))
def test_a_cut_payload_is_corrupt(length: int) -> None:
    _, payload = codec.dump(LINEAR)
    with pytest.raises(Corrupt):
        codec.load("linear", payload[: min(length, len(payload) - 1)])
    with pytest.raises(Corrupt):
        codec.load("linear", payload + b"\0")


def test_arrays_that_do_not_fit_the_features_are_corrupt() -> None:
    narrow = Linear(Link.IDENTITY, np.zeros(1), np.zeros((1, 3)), np.zeros(3))
    with pytest.raises(Corrupt, match="expected arrays that fit"):
        codec.load(*codec.dump(Model(Encoder(NUMBERS), narrow)))
    with pytest.raises(Corrupt, match="expected arrays that fit"):
        codec.load(*codec.dump(Model(Encoder(NUMBERS), LINEAR.estimator, ("a", "b"))))


def test_an_unknown_codec_is_corrupt() -> None:
    with pytest.raises(Corrupt, match="linear, seasonal, sklearn-arrays, skops, pickle"):
        codec.load("onnx", b"")


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return open, (str(self.marker), "w")


def other_payload(body: bytes) -> bytes:
    header = json.dumps({"features": [["x0", "double"]]}).encode()
    return b"\x01" + len(header).to_bytes(4, "little") + header + body


def test_a_hostile_pickle_does_nothing_where_pickles_are_not_allowed(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    hostile = other_payload(pickle.dumps(Bomb(marker)))
    for name in codec.CODECS:
        with pytest.raises(Corrupt):
            codec.load(name, hostile)
    assert not marker.exists()
    codec.load("pickle", hostile, allow_pickle=True)  # the bomb is a real one
    assert marker.exists()


def test_a_type_that_skops_was_reported_to_trust_by_nobody_is_refused() -> None:
    fitted = make_pipeline(FunctionTransformer(test_classes_come_back), Ridge())
    with pytest.raises(ContractError, match=r"expected allowed types; got .*\. Use an estimator whose"):
        codec.dump(Model(Encoder(NUMBERS), fitted))
    raw = skops.io.dumps(fitted)
    with pytest.raises(Corrupt, match="expected allowed types"):
        skops_codec.unpack(zlib.compress(raw))


def test_an_estimator_of_anybodys_class_needs_pickle() -> None:
    model = Model(Encoder(NUMBERS), Anybody())
    with pytest.raises(ContractError, match="pickle is not supported"):
        codec.dump(model)
    used, payload = codec.dump(model, allow_pickle=True)
    assert used == "pickle"
    assert codec.load(used, payload, allow_pickle=True).predict(FRAME).tolist() == [7.0] * 40


class Anybody:
    def predict(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.full(len(x), 7.0)


def test_a_payload_that_unpacks_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skops_codec, "MAX_BYTES", 1000)
    with pytest.raises(Corrupt, match="at most 1000 bytes"):
        skops_codec.unpack(zlib.compress(b"\0" * 10_000))


def test_nothing_is_parsed_before_its_signature_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer(b"k" * 32)
    name, payload = codec.dump(LINEAR)
    claim = Claim('["AA"]', "m", name)
    signature = signer.sign(claim, payload)
    opened = codec.load_signed(signer, claim, payload, signature)
    np.testing.assert_array_equal(opened.predict(FRAME), LINEAR.predict(FRAME))
    parsed: list[str] = []
    monkeypatch.setattr(codec, "load", lambda *_args, **_: parsed.append("parsed"))
    swapped = Claim('["BB"]', "m", name)
    with pytest.raises(Corrupt, match="signature"):
        codec.load_signed(signer, swapped, payload, signature)
    with pytest.raises(Corrupt, match="signature"):
        codec.load_signed(signer, claim, bytes([payload[0] ^ 1]) + payload[1:], signature)
    assert parsed == []
