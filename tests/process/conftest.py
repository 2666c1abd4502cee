from configured_fleet import configured, put

__all__ = ["configured", "put"]
