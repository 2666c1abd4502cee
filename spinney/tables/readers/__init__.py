"""What commands, pages and rounds read from the tables: champions, the clock, errors, gains, the state as of a time."""
