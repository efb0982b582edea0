"""A server on this machine that publishes files, and the cache they are kept in."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


class Mirror:
    """A server on this machine; ``answers`` maps a file name to what is sent."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut = self.garbled = self.endless = False
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                mirror.asked.append(name)
                if mirror.garbled:
                    self.wfile.write(b"nothing like HTTP\r\n\r\n")
                    return
                if name not in mirror.answers:
                    self.send_error(404)
                    return
                body = mirror.answers[name]
                self.send_response(200)
                if not mirror.endless:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                while mirror.endless:
                    try:
                        self.wfile.write(body)
                    except OSError:  # the reader has gone
                        return
                self.wfile.write(body[: len(body) // 2] if mirror.cut else body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/models"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    mirror = Mirror()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv("WSSS_WEIGHTS_URL", mirror.url + "/")
    thread = threading.Thread(target=mirror.server.serve_forever, args=(0.01,))
    thread.start()
    yield mirror
    mirror.server.shutdown()
    thread.join()
    mirror.server.server_close()


def cached(tmp_path: Path) -> list[str]:
    folder = tmp_path / "cache" / "wsss"
    return sorted(os.listdir(folder)) if folder.exists() else []
