"""The demo: an example folder replayed through all queries, and compared with other refit strategies.

An example folder has `fleet.toml` (the fleet), `demo.toml` (the scenario) and a data file. Nothing here depends on the
subject of the data.
"""
