"""Which records are valid and what their values are: the one definition that every path into the fleet follows.

The stream, `load`, `produce`, `try` and `init --from` all end in `judge`. Beside it, `json_columns` and `columns` read
many records at once. They take only records for which they give what `judge` gives.
"""
