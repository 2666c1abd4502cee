"""What people are told of a fleet: status of groups, explanations, comparisons, summaries."""
