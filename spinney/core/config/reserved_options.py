"""Kafka client options that a fleet sets itself, by their names in Java and in librdkafka, each with the reason.

If given in `kafka.options`, they would have no effect or would cause records to be lost, duplicated or misread.
"""

from __future__ import annotations

_OFFSETS = "Each query reads from the offsets of its own checkpoint. Remove it."
_BYTES = "Keys and values are read and written as bytes. Remove it."
_ALL_REPLICAS = "A producer waits for all replicas and repeats without doubling. Remove it."
_PARTITIONS = "A key goes to the partition that Java's clients choose for it (murmur2). Remove it."
_SERVERS = "Set kafka.bootstrap_servers instead."

RESERVED_OPTIONS = {
    "acks": _ALL_REPLICAS,
    "auto.commit.interval.ms": _OFFSETS,
    "auto.offset.reset": _OFFSETS,
    "bootstrap.servers": _SERVERS,
    "enable.auto.commit": _OFFSETS,
    "enable.auto.offset.store": _OFFSETS,
    "enable.idempotence": _ALL_REPLICAS,
    "group.id": _OFFSETS,
    "group.instance.id": _OFFSETS,
    "interceptor.classes": _BYTES,
    "isolation.level": "Records of aborted transactions are never read (read_committed). Remove it.",
    "key.deserializer": _BYTES,
    "key.serializer": _BYTES,
    "max.in.flight": _ALL_REPLICAS,
    "max.in.flight.requests.per.connection": _ALL_REPLICAS,
    "metadata.broker.list": _SERVERS,
    "partitioner": _PARTITIONS,
    "partitioner.class": _PARTITIONS,
    "partitioner.ignore.keys": _PARTITIONS,
    "request.required.acks": _ALL_REPLICAS,
    "transactional.id": "A batch that is answered again sends the same answers again. Remove it.",
    "value.deserializer": _BYTES,
    "value.serializer": _BYTES,
}
"""Option -> why it is refused, and what to do."""
