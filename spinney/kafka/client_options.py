"""Kafka client options: configured by their Java names, which Spark uses as they are; translated here for
librdkafka.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from schemas.messages import MAX_RECORD_BYTES
from spinney.core.config import Kafka
from spinney.core.errors import ConfigError, Finding

KEY_BYTES = 64 * 1024
_RENAMED = {
    "sasl.mechanism": "sasl.mechanisms",
    "ssl.truststore.certificates": "ssl.ca.pem",
    "ssl.keystore.certificate.chain": "ssl.certificate.pem",
    "ssl.keystore.key": "ssl.key.pem",
}
_DROPPED = ("ssl.truststore.type", "ssl.truststore.password", "ssl.keystore.type", "sasl.jaas.config")
_LOGIN = re.compile(r"""\b(username|password)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s;"']+))""")


def producer_settings(kafka: Kafka) -> dict[str, str | int | bool]:
    """Return librdkafka's settings of a producer: idempotent, all replicas, partitioned like Java's clients."""
    return {
        # What a valid record may be, with room for its key: librdkafka's own default is less.
        "message.max.bytes": MAX_RECORD_BYTES + KEY_BYTES,
        **client_settings(kafka),
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "zstd",
        "linger.ms": 20,
        # Where Java's clients, Spark's sink among them, put a key; librdkafka's own default is another hash.
        "partitioner": "murmur2_random",
    }


def consumer_settings(kafka: Kafka, group: str) -> dict[str, str | int | bool]:
    """Return librdkafka's settings of a consumer that reads assigned partitions and commits no offsets.

    Aborted transactions are not read. Each partition reports its end (`_PARTITION_EOF`), since its last offsets may be
    transaction markers, which are not messages.
    """
    return {
        **client_settings(kafka),
        "group.id": group,
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
    }


def client_settings(kafka: Kafka) -> dict[str, str | int | bool]:
    """Return librdkafka's settings to reach the cluster of `config`.

    Raises ConfigError: an option that exists only in Java and cannot be translated.
    """
    return {"bootstrap.servers": kafka.bootstrap_servers, **from_java(kafka.options)}


def from_java(options: Mapping[str, str]) -> dict[str, str | int | bool]:
    """Return librdkafka's options for Java's; options with the same name in both are passed through.

    Raises ConfigError: an option that exists only in Java and cannot be translated.
    """
    settings: dict[str, str | int | bool] = {}
    for name, value in options.items():
        if name in _DROPPED:
            continue
        if name == "ssl.truststore.location":
            settings["ssl.ca.location"] = _pem(options, "ssl.truststore", value)
        elif name == "ssl.keystore.location":
            settings |= _keystore(options, value)
        elif name == "ssl.keystore.password" and _store_type(options, "ssl.keystore") == "PEM":
            continue
        elif name == "ssl.endpoint.identification.algorithm":
            settings[name] = value or "none"
        else:
            settings[_RENAMED.get(name, name)] = value
    if "sasl.jaas.config" in options:
        settings |= _login_options(options)
    return settings


def _login_options(options: Mapping[str, str]) -> dict[str, str]:
    mechanism = options.get("sasl.mechanism", "")
    login = {found[1]: _login_value(found) for found in _LOGIN.finditer(options["sasl.jaas.config"])}
    if mechanism != "PLAIN" and not mechanism.startswith("SCRAM-"):
        expected = 'sasl.mechanism "PLAIN", "SCRAM-SHA-256" or "SCRAM-SHA-512" beside it'
        raise _refused_option(
            "sasl.jaas.config", expected, f'"{mechanism}"', "librdkafka has no option for other logins."
        )
    if login.keys() != {"username", "password"}:
        expected = '…LoginModule required username="…" password="…";'
        raise _refused_option("sasl.jaas.config", expected, f"only {', '.join(sorted(login)) or 'neither'}", "")
    return {"sasl.username": login["username"], "sasl.password": login["password"]}


def _login_value(match: re.Match[str]) -> str:
    quoted = match[2] if match[2] is not None else match[3]
    return match[4] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)


def _store_type(options: Mapping[str, str], store: str) -> str:
    location = options.get(f"{store}.location", "").lower()
    guess = "PEM" if location.endswith((".pem", ".crt")) else "PKCS12" if location.endswith((".p12", ".pfx")) else "JKS"
    return options.get(f"{store}.type", guess).upper()


def _pem(options: Mapping[str, str], store: str, location: str) -> str:
    if (kind := _store_type(options, store)) != "PEM":
        remedy = f'Convert it to PEM and set {store}.type = "PEM".'
        raise _refused_option(f"{store}.location", "a PEM file, which Spark and librdkafka both read", kind, remedy)
    return location


def _keystore(options: Mapping[str, str], location: str) -> dict[str, str]:
    if _store_type(options, "ssl.keystore") == "PKCS12":
        return {"ssl.keystore.location": location}
    location = _pem(options, "ssl.keystore", location)
    return {"ssl.certificate.location": location, "ssl.key.location": location}


def _refused_option(option: str, expected: str, got: str, remedy: str) -> ConfigError:
    return ConfigError([Finding("fleet.toml", None, f"kafka.options.{option}", expected, got, remedy)])
