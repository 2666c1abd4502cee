"""Fitting many groups: training rows, estimators and their kernels, losses, comparisons of recipes."""
