"""Reports on a fleet: status of groups, explanations, comparisons, summaries."""
