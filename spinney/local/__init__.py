"""What makes one machine enough: Java, jars, a broker, checks, `produce`, `try`."""
