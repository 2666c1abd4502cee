"""Records answered by the newest champions, which a thread keeps up to date."""
