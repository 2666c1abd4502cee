"""Tests of files and tables stay within their process."""

from configured_fleet import configured, put
from one_process import no_process_is_started

__all__ = ["configured", "no_process_is_started", "put"]
