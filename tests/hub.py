"""A Hub on the loopback interface: a real HTTP server with the few answers that the client needs, and its faults."""

import hashlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "868878ce4c253a8061300f923b620fdc6edf090a"


class Request(BaseHTTPRequestHandler):
    """One request; what is answered is the Hub's `behave`."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        hub = self.server.hub
        hub.requests.append((self.command, self.path, self.headers.get("Authorization")))
        if self.path.startswith("/api/") and hub.behave is not silent:
            self.reply(404, {})  # the client's telemetry, which a user can switch off (HF_HUB_DISABLE_TELEMETRY)
        else:
            hub.behave(self, hub)

    def reply(self, status: int, headers: dict[str, str], body: bytes = b"", length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: "Hub"

    def handle_error(self, request, client_address):
        pass  # clients that hang up are part of the tests


@dataclass
class Hub:
    """What is served, and every request that came: (method, path, Authorization)."""

    content: bytes
    behave: Callable[[Request, "Hub"], None]
    url: str = ""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    etag: str = ""

    @property
    def downloads(self) -> int:
        """How often the body of a file was asked for."""
        return sum(method == "GET" and not path.startswith("/api/") for method, path, _ in self.requests)

    def headers(self) -> dict[str, str]:
        return {"X-Repo-Commit": COMMIT, "ETag": f'"{self.etag}"'}


@contextmanager
def serving(
    content: bytes, behave: Callable[[Request, Hub], None] | None = None, tls: tuple[Path, Path] | None = None
) -> Iterator[Hub]:
    """A Hub that has this content under every name; `tls` is a certificate and its key."""
    hub = Hub(content, behave or good, etag=hashlib.sha256(content).hexdigest())
    server = Server(("127.0.0.1", 0), Request)
    server.hub = hub
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    hub.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def good(request: Request, hub: Hub) -> None:
    request.reply(200, hub.headers(), hub.content)


def status(code: int, **headers: str) -> Callable[[Request, Hub], None]:
    """Every answer has this status; X_Error_Code="..." adds that header."""
    return lambda request, hub: request.reply(code, {name.replace("_", "-"): value for name, value in headers.items()})


def silent(request: Request, hub: Hub) -> None:
    time.sleep(60)


def stalled(request: Request, hub: Hub) -> None:
    """Half of the body, and then nothing."""
    if request.command == "HEAD":
        return good(request, hub)
    request.reply(200, hub.headers(), hub.content[: len(hub.content) // 2], length=len(hub.content))
    request.wfile.flush()
    time.sleep(60)


def cut_resumable(request: Request, hub: Hub) -> None:
    """At most 10 MB of what was asked for, and then the connection closes."""
    start = int(request.headers.get("Range", "bytes=0-")[6:-1])
    body = hub.content[start:][:10_000_000]
    if request.command == "HEAD":
        return good(request, hub)
    request.close_connection = True
    part = {"Content-Range": f"bytes {start}-{len(hub.content) - 1}/{len(hub.content)}"} if start else {}
    request.reply(206 if start else 200, hub.headers() | part, body, length=len(hub.content) - start)


def cut(request: Request, hub: Hub) -> None:
    """Half of the body, and then the connection closes; a Range is not honoured, as by some proxies."""
    if request.command == "HEAD":
        return good(request, hub)
    request.close_connection = True
    request.reply(200, hub.headers(), hub.content[: len(hub.content) // 2], length=len(hub.content))


def short(request: Request, hub: Hub) -> None:
    """A well-formed answer with half of the body: not what HEAD promised."""
    body = hub.content if request.command == "HEAD" else hub.content[: len(hub.content) // 2]
    request.reply(200, hub.headers(), body)


def corrupt(request: Request, hub: Hub) -> None:
    """As many bytes as promised, one of them wrong."""
    request.reply(200, hub.headers(), hub.content[:-1] + bytes([hub.content[-1] ^ 1]))


def corrupt_once(request: Request, hub: Hub) -> None:
    """Wrong bytes for the first GET only."""
    (corrupt if hub.downloads == 1 else good)(request, hub)


def portal(request: Request, hub: Hub) -> None:
    request.reply(200, {"Content-Type": "text/html"}, b"<html><body>Please log in to the hotel's network</body></html>")


def portal_body(request: Request, hub: Hub) -> None:
    """The portal comes between HEAD and GET."""
    (good if request.command == "HEAD" else portal)(request, hub)


def understated(request: Request, hub: Hub) -> None:
    """HEAD tells a smaller size than the body has."""
    request.reply(200, hub.headers(), hub.content if request.command == "GET" else hub.content[:1000])


def named(etag: str) -> Callable[[Request, Hub], None]:
    """A good answer with this ETag."""
    return lambda request, hub: request.reply(200, hub.headers() | {"ETag": f'"{etag}"'}, hub.content)


def dripping(request: Request, hub: Hub) -> None:
    """The body comes one byte at a time, and never a second passes without one."""
    if request.command == "HEAD":
        return good(request, hub)
    request.reply(200, hub.headers(), length=len(hub.content))
    for byte in hub.content:
        request.wfile.write(bytes([byte]))
        request.wfile.flush()
        time.sleep(0.2)


def dripping_headers(request: Request, hub: Hub) -> None:
    """Always one more header, never the last one."""
    request.send_response(200)
    while True:
        request.send_header("X-More", "x" * 10)
        request.flush_headers()
        time.sleep(0.2)


def endless(request: Request, hub: Hub) -> None:
    """A body that goes on for ever, in chunks and so without a length."""
    if request.command == "HEAD":
        return good(request, hub)
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    while True:
        request.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")


def redirect_to(other: Hub) -> Callable[[Request, Hub], None]:
    """The file is at another host, as at the real Hub."""

    def behave(request: Request, hub: Hub) -> None:
        location = other.url.replace("127.0.0.1", "localhost") + "/blob"
        linked = {"X-Linked-Etag": f'"{hub.etag}"', "X-Linked-Size": str(len(hub.content))}
        request.reply(302, {**hub.headers(), **linked, "Location": location})

    return behave


def moved(request: Request, hub: Hub) -> None:
    """The repository has another name now: the new address is told whole, on the same host."""
    if request.path.startswith("/someone/"):
        request.reply(307, {"Location": f"{hub.url}/other{request.path}"})
    else:
        good(request, hub)


def circular(request: Request, hub: Hub) -> None:
    """Each answer leads to another address."""
    request.reply(302, {"Location": f"{hub.url}{request.path}x"})
