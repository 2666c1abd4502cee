"""A fleet's root folder, except its tables: layout, charter, leases, checkpoints, keys, configuration files."""
