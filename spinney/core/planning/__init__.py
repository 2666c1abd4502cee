"""What a round takes on: ranking within a budget, predicted cost, chunks of a large round."""
