from interpreted_plans import spark

__all__ = ["spark"]
