"""The files of the page: HTML, CSS and JavaScript modules, read once, each with the hash of its content as ETag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

MEDIA_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

INDEX = "index.html"


@dataclass(frozen=True)
class PageFile:
    """A file as it is sent."""

    body: bytes
    media_type: str
    etag: str


def read_page_files() -> dict[str, PageFile]:
    """Return name -> file of every file of the page."""
    found = {}
    for file in (files(__package__) / "static").iterdir():
        suffix = "." + file.name.rpartition(".")[2]
        if suffix in MEDIA_TYPES:
            body = file.read_bytes()
            found[file.name] = PageFile(body, MEDIA_TYPES[suffix], f'"{sha256(body).hexdigest()[:32]}"')
    return found
