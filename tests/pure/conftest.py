"""Pure tests stay within their process, and import only the core."""

from configured_fleet import configured, put
from one_process import no_process_is_started

__all__ = ["configured", "no_process_is_started", "put"]
