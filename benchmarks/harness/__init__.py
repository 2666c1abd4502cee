"""What the benchmarks share: processes and their cost, synthetic fleets, load on Kafka, results."""
