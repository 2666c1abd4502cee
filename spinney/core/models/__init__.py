"""Fitted models: their answers, their codecs, their signatures."""
