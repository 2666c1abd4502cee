"""CSV files: their dialect, header, quotes and numbers, and their rows as text."""
