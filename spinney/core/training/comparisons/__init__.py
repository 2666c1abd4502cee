"""Comparisons of models on held-out rows: with the champion, its predecessor, a parent, a constant, another recipe."""
