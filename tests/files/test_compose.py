from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from spinney.local.jars import locked


@pytest.fixture(scope="module")
def kafka() -> dict:
    text = (Path(__file__).parents[2] / "docker-compose.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["services"]["kafka"]


def test_kafka_starts_only_when_its_profile_is_asked_for(kafka: dict) -> None:
    assert kafka["profiles"] == ["kafka"]


def test_it_is_the_version_of_the_embedded_broker(kafka: dict) -> None:
    (broker,) = [jar for jar in locked("broker") if jar.artifact == "kafka_2.13"]
    assert kafka["image"] == f"apache/kafka:{broker.version}"


def test_it_is_published_on_the_loopback_interface_only(kafka: dict) -> None:
    assert kafka["ports"] == ["127.0.0.1:9092:9092"]


def test_it_runs_without_roots_rights_and_says_when_it_is_healthy(kafka: dict) -> None:
    assert kafka["user"] not in ("root", "0")
    assert kafka["cap_drop"] == ["ALL"]
    assert kafka["healthcheck"]["test"][0] == "CMD"


def test_every_listener_has_a_protocol_and_every_client_listener_an_address(kafka: dict) -> None:
    settings = kafka["environment"]

    def names(key: str) -> set[str]:
        return {entry.partition(":")[0] for entry in settings[key].split(",")}

    assert names("KAFKA_LISTENERS") == names("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP") == {"HOST", "INSIDE", "CONTROLLER"}
    assert names("KAFKA_ADVERTISED_LISTENERS") == {"HOST", "INSIDE"}
    assert all(isinstance(value, str) for value in settings.values())
