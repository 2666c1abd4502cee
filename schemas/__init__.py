"""What crosses a boundary: contracts of topics and tables. Plain data, standard library only."""
