"""Watermark delays, and durations as Spark reads them."""

from __future__ import annotations

from datetime import timedelta

from spinney.core.config import Kafka


def watermark_delay(kafka: Kafka) -> timedelta:
    """Return how far the watermark of duplicates is behind the newest arrival.

    Spark forgets an id once the watermark has passed its arrival by this delay, that is when the newest arrival is
    twice the delay later: half of `duplicates_within` remembers ids for `duplicates_within`.
    """
    return kafka.duplicates_within / 2


def interval(duration: timedelta) -> str:
    """Return a duration in Spark's syntax, in milliseconds."""
    return f"{duration // timedelta(milliseconds=1)} milliseconds"
