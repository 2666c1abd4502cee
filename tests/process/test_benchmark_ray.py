"""Ray Serve gets the gateway's requests, each with its model's name, and answers by the same models. Without Ray."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from linear_fleet import FEATURES, key_of, write_fleet

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from harness import http_load, ray_models
from harness.ray_serving import headers_by_body


class Multiplexed(BaseHTTPRequestHandler):
    """What Ray's replica does: loads the model that a header names, and answers by it. Closes each connection."""

    models = Path()
    asked: list[str]

    def do_POST(self) -> None:
        name = self.headers[ray_models.HEADER]
        rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["records"]
        answer = json.dumps(ray_models.predict(ray_models.load_model(self.models, name), rows)).encode()
        self.asked.append(name)
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_each_row_is_answered_by_the_model_of_its_group(tmp_path: Path) -> None:
    fleet = write_fleet(tmp_path / "fleet", 3)
    rows = [
        {"shop": f"s{n}", "dept": f"d{n}", **{name: n + at / 4 for at, name in enumerate(FEATURES)}} for n in range(3)
    ]
    ray_models.write_models(tmp_path / "models", {f"s{n}": fleet.coefficients[key_of(n)].tolist() for n in range(3)})
    handler = type("Handler", (Multiplexed,), {"models": tmp_path / "models", "asked": []})
    requests = headers_by_body(rows)
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            load = http_load.send(url, "/predict", 1, lambda _: iter(requests), 60.0, requests.__getitem__)
            client = http_load.Client(url, "/predict", requests.__getitem__)
            answers = [json.loads(client.post(body)) for body in requests]
        finally:
            server.shutdown()
            thread.join()
    assert len(load.seconds) == 3
    assert handler.asked == ["s0", "s1", "s2"] * 2
    assert answers == [[pytest.approx(fleet.expected(key_of(n), row))] for n, row in enumerate(rows)]
