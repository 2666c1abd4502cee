"""Partial pooling: coefficients of groups that are shrunk toward the model of their parent."""
