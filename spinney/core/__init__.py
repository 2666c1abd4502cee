"""All decisions, as pure functions: no Spark, Delta, Kafka, MLflow, web, clock, disk or network."""
