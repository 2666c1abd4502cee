"""A fleet's root folder besides its tables: layout, charter, leases, checkpoints, keys, configuration files."""
