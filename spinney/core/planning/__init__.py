"""Planning of rounds: choice of groups within a budget, predicted cost, parts of a large round."""
