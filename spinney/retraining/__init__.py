"""A round from its plan to its record, for the stream and the weekly batch alike."""
