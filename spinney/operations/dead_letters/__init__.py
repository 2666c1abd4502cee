"""Dead letters: what there is, sent again after a fix, forgotten. No JVM is needed."""
