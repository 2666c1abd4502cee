"""Replay of recorded history: what a configuration would have decided, and with what loss."""
