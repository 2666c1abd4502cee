"""The demo at scale: 50,000 synthetic groups of which 1 % change, a weekly round, 2,000 events a second."""
