"""Which records are valid and what their values are: the one definition that every path into the fleet follows.

The stream, `load`, `produce`, `try` and `init --from` all end in `judge`. Faster readings of plain records exist beside
it, in the JVM and on Arrow columns; they take only records for which they give what `judge` gives.
"""
