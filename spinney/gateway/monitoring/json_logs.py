"""Log records as JSON objects, one a line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

FIELDS = "fields"
"""Attribute of a log record with further fields of its JSON object."""


class JsonFormatter(logging.Formatter):
    """time (ISO 8601, UTC), level, logger, message, the record's FIELDS, and error with the stack if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        line |= getattr(record, FIELDS, {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_as_json(handler: logging.Handler) -> None:
    """Let this handler write every log record from INFO on, and no other."""
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
