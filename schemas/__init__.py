"""Contracts of topics and tables. Plain data, standard library only."""
