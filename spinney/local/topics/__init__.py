"""Records that are sent to topics from a file, and read from them for demos and benchmarks."""
