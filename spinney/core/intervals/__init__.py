"""Prediction intervals from the held-out losses of champions."""
