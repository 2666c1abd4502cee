"""A fleet's root folder besides its tables: identity, layout, leases, checkpoints, keys, configuration files."""
