"""Counts for Prometheus and structured logs."""
