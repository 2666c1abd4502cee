"""Fetch jars from the Maven repository of ``SPINNEY_MAVEN_REPOSITORY``: http, https or a folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import requests

from spinney.core.errors import SetupError
from spinney.local.jars import MIRROR, Fetch, Jar, not_loaded, not_there

READ_TIMEOUT_S = 60
CHUNK_BYTES = 1 << 20


def mirror(url: str) -> Fetch:
    """Return a function that fetches jars from the repository at `url` (``https://…``, ``http://…``, ``file:///…``).

    Raises:
        SetupError: `url` is none of these.
    """
    scheme = urlsplit(url).scheme
    if scheme not in ("http", "https", "file"):
        raise SetupError(f"{MIRROR}: expected https://…, http://… or file:///…; got {_public(url)!r}")

    def fetch(jars: Sequence[Jar], folder: Path, adopt: Callable[[Jar, Path], None]) -> None:
        with requests.Session() as http:
            for position, jar in enumerate(jars):
                part = folder / f"{jar.name}.part"
                is_loaded = _copy(url, jar, part) if scheme == "file" else _download(http, url, jars[position:], part)
                if not is_loaded:
                    raise not_there([jar], _public(url))
                adopt(jar, part)

    return fetch


def _copy(url: str, jar: Jar, part: Path) -> bool:
    file = Path(unquote(urlsplit(url).path)) / jar.path
    if file.is_file():
        shutil.copyfile(file, part)
    return file.is_file()


def _download(http: requests.Session, url: str, jars: Sequence[Jar], part: Path) -> bool:
    """Load the first of `jars`.

    Returns False if the repository lacks it. The other jars are only for the error message.
    """
    try:
        with http.get(f"{url.rstrip('/')}/{jars[0].path}", stream=True, timeout=READ_TIMEOUT_S) as answer:
            if answer.status_code in (404, 410):
                return False
            if not answer.ok:
                raise not_loaded(jars, f"{_public(url)} answered {answer.status_code} {answer.reason}")
            with part.open("wb") as file:
                for chunk in answer.iter_content(CHUNK_BYTES):
                    file.write(chunk)
    except (
        requests.RequestException
    ) as error:  # its text may contain a password in the address: only its class is shown
        raise not_loaded(jars, f"{_public(url)} does not answer ({type(error).__name__})") from None
    return True


def _public(url: str) -> str:
    """Return the address without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
