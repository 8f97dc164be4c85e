"""The label page's server: on this machine only, for whoever has the link.

Pages of the web are shown here, and other pages of the web may be open in the same browser. So: the address is
127.0.0.1, every path begins with a random token, a Host or Origin that is not ours is refused (DNS rebinding), answers
must be JSON (which no foreign form can send), and the page may load nothing and run nothing but its own three files.
"""

from __future__ import annotations

import json
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from threading import Event, Thread
from typing import Any

from fineedu.annotate.human.session import Session
from fineedu.errors import FineeduError

#: Bytes of a request body: an answer with the longest note, four bytes a character, is shorter.
_BODY = 32_768
_FILES = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class LabelServer:
    """Serves a session until the person finishes or :meth:`stop` is called.

    Args:
        session: what is labelled.
        port: 0 takes a free one.

    Raises:
        FineeduError: the port is taken.
    """

    def __init__(self, session: Session, port: int = 0) -> None:
        self.session = session
        self.token = secrets.token_urlsafe(18)
        self.finished = Event()
        try:
            self._http = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            raise FineeduError(f"cannot listen on port {port}: {error}. Leave --port out to take a free one") from error
        self._http.daemon_threads = True
        self._http.label = self  # type: ignore[attr-defined]
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    @property
    def hosts(self) -> list[str]:
        """Host headers that are ours."""
        return [f"{name}:{self._http.server_port}" for name in ("127.0.0.1", "localhost")]

    @property
    def url(self) -> str:
        """Address to open, with the token."""
        return f"http://{self.hosts[0]}/{self.token}/"

    def start(self) -> None:
        """Serve in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "fineedu"
    sys_version = ""
    #: seconds an idle connection is kept
    timeout = 60

    @property
    def label(self) -> LabelServer:
        label: LabelServer = self.server.label  # type: ignore[attr-defined]
        return label

    def do_GET(self) -> None:
        path = self._own_path()
        if path in _FILES:
            name, kind = _FILES[path]
            self._send(HTTPStatus.OK, (files(__package__) / name).read_bytes(), kind)
        elif path == "api/session":
            self._json(self._session())
        elif path is not None and path.startswith("api/document/"):
            self._document(path.removeprefix("api/document/"))
        elif path is not None:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

    def do_POST(self) -> None:
        path = self._own_path()
        if path is None:
            return
        body = self._body()
        if body is None:
            return
        session = self.label.session
        try:
            if path == "api/answer":
                session.answer(**body)
                answered = session.answered()
                if all(answered):
                    session.export()
                self._json({"answered": answered})
            elif path == "api/undo":
                index = session.undo()
                self._json({"answered": session.answered(), "index": index})
            elif path == "api/finish":
                self._json({"labels": session.export(), "output": str(session.output)})
                self.label.finished.set()
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
        except TypeError:
            self._refuse(HTTPStatus.BAD_REQUEST, "this is no answer")
        except FineeduError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))

    def _own_path(self) -> str | None:
        """Return the path behind the token; answer and return None where the request is not our page's."""
        label = self.label
        origin = self.headers.get("Origin")
        if self.headers.get("Host") not in label.hosts:
            self._refuse(HTTPStatus.FORBIDDEN, "this host name is not served here")
        elif origin is not None and origin not in [f"http://{host}" for host in label.hosts]:
            self._refuse(HTTPStatus.FORBIDDEN, "requests from other pages are refused")
        else:
            first, _, rest = self.path.removeprefix("/").partition("/")
            if secrets.compare_digest(first.encode(), label.token.encode()):
                return rest
            self._refuse(HTTPStatus.FORBIDDEN, "open the whole link that the command printed")
        return None

    def _body(self) -> dict[str, Any] | None:
        """Return the request's JSON object; answer and return None where it has none."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"an answer has at most {_BODY} bytes")
            return None
        content = self.rfile.read(int(length))
        try:
            body = json.loads(content)
        except ValueError:
            body = None
        if self.headers.get_content_type() != "application/json" or not isinstance(body, dict):
            self._refuse(HTTPStatus.BAD_REQUEST, "an answer is a JSON object")
            return None
        return body

    def _session(self) -> dict[str, Any]:
        session = self.label.session
        rubric = session.rubric
        return {
            "rubric": {"name": rubric.name, "text": rubric.text, "scale": rubric.scale, "topics": rubric.topics},
            "annotator": session.annotator,
            "answered": session.answered(),
            "output": str(session.output),
        }

    def _document(self, number: str) -> None:
        session = self.label.session
        if not number.isdecimal() or int(number) >= len(session.documents):
            self._refuse(HTTPStatus.NOT_FOUND, "no such document")
            return
        document, answer = session.documents[int(number)], session.answer_of(int(number))
        given = answer and {"state": answer.state, "score": answer.score, "topic": answer.topic, "note": answer.note}
        shown = {"id": document.id, "url": document.url, "title": document.title, "text": document.text}
        self._json(shown | {"answer": given})

    def _json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(status, json.dumps(value, ensure_ascii=False).encode(), "application/json; charset=utf-8")

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        # What is left of a refused body would be read as the next request.
        self.close_connection = True
        self._json({"error": reason}, status)

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in (_HEADERS | {"Content-Type": kind, "Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: the terminal shows the link."""
