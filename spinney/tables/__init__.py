"""Delta tables without a JVM: made, appended to once per step, read at a version, rewritten in bounded memory."""
