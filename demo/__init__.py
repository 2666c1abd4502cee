"""The demo: an example folder replayed through the whole loop, and what it was worth.

An example folder holds `fleet.toml` (what the fleet is), `demo.toml` (what happens to it) and its data. Nothing here
knows what the data is about.
"""
