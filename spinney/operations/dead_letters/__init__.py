"""Dead letters: list them, send them again after a fix, delete them. Needs no JVM."""
