"""The one definition of a valid record and of its values. Every path into the fleet follows it.

The stream, `load`, `produce`, `try` and `init --from` use `validate`. `json_columns` and `columns` read many records at
once, and accept only records for which they give the same result as `validate`.
"""
