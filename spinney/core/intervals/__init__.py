"""Prediction intervals from losses of champions on rows that they had not seen."""
