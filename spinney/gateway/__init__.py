"""The HTTP gateway of a fleet."""
