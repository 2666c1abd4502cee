"""Fitted models: predictions, codecs, signatures."""
