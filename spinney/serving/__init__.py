"""Answers of a fleet: routing to champions, a cache of models, a manifest as a folder."""
