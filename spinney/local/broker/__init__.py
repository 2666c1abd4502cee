"""A Kafka broker as a process of this machine, which ends with the process that started it."""

from __future__ import annotations

from spinney.local.broker.embedded_broker import Broker

__all__ = ["Broker"]
