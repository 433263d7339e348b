"""An HTTP proxy that does to requests what networks and stores do: 503s, torn answers, stalls, delays."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_ERROR = '<?xml version="1.0"?><Error><Code>{}</Code><Message>{}</Message></Error>'
ERRORS = {
    "403": _ERROR.format("AccessDenied", "Access Denied").encode(),
    "500": _ERROR.format("InternalError", "We encountered an internal error. Please try again.").encode(),
    "503": _ERROR.format("SlowDown", "Please reduce your request rate.").encode(),
}
FAULTS = ("503", "500", "403", "torn", "stall", "reset", "lost-answer", "late-answer", "held")


class FaultProxy:
    """Forwards to `target`; `fault(method, path, number)` names what happens to a request, None for nothing.

    `requests` lists (method, path, fault) in order; `number` counts from 0. `lost-answer` performs the request and then
    drops the connection, `late-answer` performs it and then stalls; `held` performs it once `let_go` is set, whether or
    not anybody still waits for the answer. `delay` seconds are added to every request.
    `stalled` is how many requests hang at the moment, `held` how many are kept back.
    """

    def __init__(self, target: str, fault: Callable[[str, str, int], str | None] | None = None, delay: float = 0.0):
        self.target = urlsplit(target)
        self.fault = fault or (lambda method, path, number: None)
        self.delay = delay
        self.requests: list[tuple[str, str, str | None]] = []
        self.stalled = self.held = 0
        self.let_go = threading.Event()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()

    def _hang(self) -> None:
        with self._lock:
            self.stalled += 1
        self._stopping.wait(60)
        with self._lock:
            self.stalled -= 1

    def _hold(self) -> None:
        with self._lock:
            self.held += 1
        self.let_go.wait(60)

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self._body()
                with proxy._lock:
                    fault = proxy.fault(self.command, self.path, len(proxy.requests))
                    proxy.requests.append((self.command, self.path, fault))
                if proxy.delay:
                    time.sleep(proxy.delay)
                if fault == "stall":
                    proxy._hang()
                if fault in ("stall", "reset"):
                    self.close_connection = True
                    self.connection.close()
                    return
                if fault in ("403", "500", "503"):
                    self._answer(int(fault), {"Content-Type": "application/xml"}, ERRORS[fault])
                    return
                if fault == "held":
                    proxy._hold()
                status, headers, answer = self._forward(body)
                if fault == "held":
                    with proxy._lock:
                        proxy.held -= 1
                    self.close_connection = True
                    return  # its sender was told to give up long ago
                if fault == "late-answer":
                    proxy._hang()
                if fault in ("lost-answer", "late-answer"):
                    self.close_connection = True
                    self.connection.close()
                    return
                self._answer(status, headers, answer, torn=fault == "torn")

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

            def _body(self) -> bytes:
                if self.headers.get("Expect", "").lower() == "100-continue":
                    self.send_response_only(100)
                    self.end_headers()
                if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                    chunks = []
                    while size := int(self.rfile.readline().split(b";")[0], 16):
                        chunks.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                    return b"".join(chunks)
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
                connection = http.client.HTTPConnection(proxy.target.hostname, proxy.target.port, timeout=60)
                try:
                    dropped = ("connection", "expect", "transfer-encoding", "content-length")
                    headers = {k: v for k, v in self.headers.items() if k.lower() not in dropped}
                    connection.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
                    answer = connection.getresponse()
                    return answer.status, dict(answer.getheaders()), answer.read()
                finally:
                    connection.close()

            def _answer(self, status: int, headers: dict[str, str], body: bytes, torn: bool = False) -> None:
                self.send_response_only(status)
                length = headers.pop("Content-Length", None) if self.command == "HEAD" else None
                for name, value in headers.items():
                    if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                        self.send_header(name, value)
                self.send_header("Content-Length", length if length is not None else str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body[: len(body) // 2] if torn else body)
                self.wfile.flush()
                if torn:
                    self.close_connection = True
                    self.connection.close()

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler
