"""Kafka by its own client: topics, their ids, producers, reading. Spark's queries use its connector instead."""
