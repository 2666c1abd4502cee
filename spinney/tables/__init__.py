"""Delta tables: made, appended to once a step, read at a version, rewritten in bounded memory. No JVM is needed."""
