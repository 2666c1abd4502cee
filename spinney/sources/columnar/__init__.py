"""Files whose columns have types: Parquet, Arrow, ORC and Delta tables."""
