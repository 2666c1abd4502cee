"""Everything for running on one machine: Java, jars, a broker, checks, `produce`, `try`."""
