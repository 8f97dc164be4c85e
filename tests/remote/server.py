"""An S3 server of this machine alone, and a proxy before it that makes its troubles: slow-downs, cut-off answers, late
listings."""

from __future__ import annotations

import http.client
import random
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def moto() -> Iterator[int]:
    """Run the server and yield its port."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=1).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        yield port
        server.terminate()


def environment(port: int) -> dict[str, str]:
    keys = {"AWS_ACCESS_KEY_ID": "PLANTEDKEYID", "AWS_SECRET_ACCESS_KEY": "planted-secret-of-the-test"}
    return keys | {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


class Troubles:
    """What the proxy does; chances of each request, seconds that a listing lags behind."""

    def __init__(self, slow_down: float = 0.0, cut: float = 0.0, listing_delay: float = 0.0, seed: int = 0) -> None:
        self.slow_down, self.cut, self.listing_delay = slow_down, cut, listing_delay
        self.chance = random.Random(seed)
        self.made = {"slow_down": 0, "cut": 0, "listing": 0}
        #: key to the moment it was written
        self.written: dict[str, float] = {}


_SLOW = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


def _handler(port: int, troubles: Troubles) -> type[BaseHTTPRequestHandler]:
    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _pass_on(self) -> None:
            body = self._body()
            if troubles.chance.random() < troubles.slow_down:
                troubles.made["slow_down"] += 1
                self._answer(503, {"Content-Type": "application/xml"}, _SLOW)
                return
            onward = http.client.HTTPConnection("127.0.0.1", port)
            try:
                hop = ("transfer-encoding", "connection", "expect")
                headers = {k: v for k, v in self.headers.items() if k.lower() not in (*hop, "content-length")}
                onward.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
                answer = onward.getresponse()
                content = answer.read()
            finally:
                onward.close()
            told = {k: v for k, v in answer.getheaders() if k.lower() not in (*hop, "content-length")}
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            if self.command == "PUT" and answer.status == 200:
                troubles.written[self.path.partition("?")[0].split("/", 2)[-1]] = time.monotonic()
            if self.command == "GET" and "list-type=2" in self.path:
                content = self._late(content)
            if self.command == "GET" and len(content) > 1000 and troubles.chance.random() < troubles.cut:
                troubles.made["cut"] += 1
                self._answer(answer.status, told, content[: len(content) // 2], str(len(content)))
                self.close_connection = True
                return
            self._answer(answer.status, told, content, length)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _late(self, listing: bytes) -> bytes:
            def hide(found: re.Match[bytes]) -> bytes:
                key = re.search(rb"<Key>(.*?)</Key>", found[0])
                assert key
                age = time.monotonic() - troubles.written.get(key[1].decode(), 0)
                if age >= troubles.listing_delay:
                    return found[0]
                troubles.made["listing"] += 1
                return b""

            return re.sub(rb"<Contents>.*?</Contents>", hide, listing, flags=re.DOTALL)

        def _answer(self, status: int, headers: dict[str, str], content: bytes, length: str | None = None) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    return Proxy


@contextmanager
def troubled(port: int, troubles: Troubles) -> Iterator[int]:
    """Run the proxy before a server and yield its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(port, troubles)) as proxy:
        proxy.daemon_threads = True
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        yield proxy.server_address[1]
        proxy.shutdown()
        thread.join()
