"""What a caller may take: bytes, places and time of a request, the connection's silence."""
