"""Answers of a fleet: champions routed, models cached, a fleet at a moment as a folder."""
