"""An HTTP proxy on loopback in front of an object store of a test: it answers some requests with an error of its own.

The store behind it is a real one; what its clients see is what a store that is full, throttled or broken says.
"""

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Answer = Callable[[str, str, int], int | None]
_HOP = {"transfer-encoding", "connection", "content-length", "keep-alive", "date", "server"}


class HttpProxy:
    """Forwards to `endpoint`. `answer(method, path, number of requests of that method)` may give a status instead."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        assert parts.hostname is not None
        self.target = (parts.hostname, parts.port or 80)
        self.answer: Answer = lambda method, path, number: None
        # whether a request is passed on and its answer lost, told as a 503
        self.answer_lost: Callable[[str, str, int], bool] = lambda method, path, number: False
        self.header_for: Callable[[dict[str, str]], dict[str, str]] = lambda headers: {}  # more to send along
        self.counts: dict[str, int] = {}
        self.refused = 0
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def heal(self) -> None:
        """Forward everything from now on."""
        self.answer = lambda method, path, number: None

    def verdict(self, method: str, path: str) -> int | None:
        """The status to answer with, None to forward; counts the request."""
        with self.lock:
            self.counts[method] = self.counts.get(method, 0) + 1
            status = self.answer(method, path, self.counts[method])
            self.refused += status is not None
            return status

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def http_proxy_for(endpoint: str) -> Iterator[HttpProxy]:
    """A proxy in front of the store at `endpoint`."""
    proxy = HttpProxy(endpoint)
    try:
        yield proxy
    finally:
        proxy.close()


def _handler(proxy: HttpProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status = proxy.verdict(self.command, self.path)
            if status is not None:
                code = "NotImplemented" if status == 501 else "Refused"
                said = f"<Error><Code>{code}</Code><Message>refused by the test</Message></Error>"
                self.reply(status, {}, said.encode())
                return
            there = http.client.HTTPConnection(*proxy.target, timeout=30)
            try:
                headers = dict(self.headers)
                there.request(self.command, self.path, body, headers | proxy.header_for(headers))
                answer = there.getresponse()
                if proxy.answer_lost(self.command, self.path, proxy.counts[self.command]):
                    self.reply(503, {}, b"")
                    return
                self.reply(answer.status, dict(answer.getheaders()), answer.read())
            finally:
                there.close()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one

        def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            size = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
            self.send_header("Content-Length", size)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Tests say what they need to say."""

    return Handler
