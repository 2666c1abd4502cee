"""Supervised worker processes: a fit that crashes, hangs or takes all memory costs no other group its model."""
