"""MLflow's own server in a thread, behind a layer that counts its requests and may fail some of them."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Layer:
    """A WSGI application around MLflow's.

    refuse: the path of a request and how many came before -> the status to answer in place of MLflow, or None.
    lose: the same, of requests that MLflow has carried out.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self.calls: Counter[str] = Counter()
        self.refused = 0
        self.reset()

    def reset(self) -> None:
        self.calls.clear()
        self.refused = 0
        self.refuse: Callable[[str, int], str | None] = lambda path, before: None
        self.lose: Callable[[str, int], str | None] = lambda path, before: None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        before = self.calls.total()
        self.calls["/".join(path.split("/")[-2:])] += 1
        status = self.refuse(path, before)
        if status is not None:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        else:
            words: list[Any] = []
            body = list(self._app(environ, lambda *message: words.extend(message)))
            status = self.lose(path, before)
            if status is None:
                start_response(*words)
                return body
        self.refused += 1
        start_response(status, [("Content-Type", "text/plain"), ("Retry-After", "0")])
        return [b"not now"]


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, Layer]]:
    """The server's address and its layer. One a process: MLflow keeps its store in a global."""
    settings = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/mlflow.db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artifacts"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }
    os.environ.update(settings)
    from mlflow.server import app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: Any) -> None:
            pass

    layer = Layer(app)
    server = make_server("127.0.0.1", 0, layer, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", layer
    finally:
        server.shutdown()
        server.server_close()
        for name in settings:
            del os.environ[name]
