"""The fleet page: its files, its figures as JSON, and the overrides that people order on it."""
