"""Recipes: what to fit and how, as a value with an id; and how two recipes differ."""
