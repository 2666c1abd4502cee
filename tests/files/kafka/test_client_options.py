from __future__ import annotations

import pytest
from confluent_kafka import Message
from kafka_fleet import fleet_with

from schemas.messages import MAX_RECORD_BYTES
from spinney.core.errors import ConfigError
from spinney.kafka.client import producer
from spinney.kafka.client_options import client_settings, from_java, producer_settings

SALES = fleet_with('bootstrap_servers = "one:1,two:2"', 'events = "sales"').kafka
PLAIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="ann" password="a\\"b;c";'


def test_a_login_of_java_becomes_a_name_and_a_password() -> None:
    assert from_java({"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.jaas.config": PLAIN}) == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanisms": "PLAIN",
        "sasl.username": "ann",
        "sasl.password": 'a"b;c',
    }


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_the_words_of_a_login_may_stand_in_any_order_and_quotes(mechanism: str) -> None:
    login = "o.a.k.ScramLoginModule required password='p' username=ann;"
    found = from_java({"sasl.mechanism": mechanism, "sasl.jaas.config": login})
    assert (found["sasl.username"], found["sasl.password"]) == ("ann", "p")


@pytest.mark.parametrize(
    "options",
    [
        {"sasl.mechanism": "GSSAPI", "sasl.jaas.config": PLAIN},
        {"sasl.jaas.config": PLAIN},
        {"sasl.mechanism": "PLAIN", "sasl.jaas.config": "PlainLoginModule required;"},
        {"ssl.truststore.location": "/etc/trust.jks", "ssl.truststore.password": "x"},
        {"ssl.keystore.location": "/etc/key.jks"},
    ],
)
def test_what_only_java_can_do_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"kafka\.options\."):
        from_java(options)


def test_a_refused_login_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        from_java({"sasl.mechanism": "PLAIN", "sasl.jaas.config": 'X required password="hush";'})
    assert "hush" not in str(caught.value)


def test_pem_files_serve_both() -> None:
    assert from_java(
        {
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": "/etc/ca",
            "ssl.keystore.location": "/etc/me.pem",
            "ssl.key.password": "k",
            "ssl.endpoint.identification.algorithm": "",
        }
    ) == {
        "ssl.ca.location": "/etc/ca",
        "ssl.certificate.location": "/etc/me.pem",
        "ssl.key.location": "/etc/me.pem",
        "ssl.key.password": "k",
        "ssl.endpoint.identification.algorithm": "none",
    }


def test_a_pkcs12_keystore_goes_through() -> None:
    options = {"ssl.keystore.location": "/etc/me.p12", "ssl.keystore.password": "k"}
    assert from_java(options) == options


def test_what_has_one_name_in_both_goes_through() -> None:
    assert from_java({"client.id": "x"}) == {"client.id": "x"}


def test_a_producer_waits_for_all_replicas_and_doubles_nothing() -> None:
    assert client_settings(SALES) == {"bootstrap.servers": "one:1,two:2"}
    settings = producer_settings(SALES)
    assert (settings["acks"], settings["enable.idempotence"]) == ("all", True)


def test_a_producer_takes_the_largest_record_that_is_valid() -> None:
    client = producer(SALES, {"test.mock.num.brokers": 1})
    client.produce("sales", bytes(MAX_RECORD_BYTES), "x" * 10_000)
    assert client.flush(30) == 0


MURMUR2 = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
"""From Kafka's own UtilsTest.java: what Java's clients make of a key."""


def test_a_key_goes_to_the_partition_that_javas_clients_choose() -> None:
    partitions = {}

    def acknowledged(error: object, message: Message) -> None:
        assert error is None
        partitions[message.key().decode()] = message.partition()

    # librdkafka's own stand-in for a broker, in this process; a topic has four partitions there.
    client = producer(SALES, {"test.mock.num.brokers": 1})
    for key in MURMUR2:
        client.produce("sales", b"{}", key, on_delivery=acknowledged)
    assert client.flush(30) == 0
    # DefaultPartitioner: the hash without its sign bit, modulo the number of partitions.
    assert partitions == {key: (hashed & 0x7FFFFFFF) % 4 for key, hashed in MURMUR2.items()}
