"""`spinney backtest`: the history from a file or the fleet's tables, and the result as a table and a chart."""
