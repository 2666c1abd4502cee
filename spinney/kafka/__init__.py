"""Kafka by its own client: topics, their ids, producers, reading. Spark's queries use Spark's connector instead."""
