"""Predictions and outcomes that may still be joined, in files, so that memory does not grow with their number."""
