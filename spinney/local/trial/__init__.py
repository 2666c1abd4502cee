"""One group fitted in plain pandas: its rows, the fit and its hold-out, and what they look like."""
