"""A simulated vendor behind a real socket, as a vendor's own client and our own network want it."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from socket import SHUT_WR, socket
from typing import Any

from exporter.simulation.wire import Request, Response


@contextmanager
def served(answer: Callable[[Request], Response], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The base URL at which this answers, until the block ends; each answer has a connection of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            response = answer(Request(method=self.command, path=path, query=query, headers=headers, body=body))
            self.send_response(response.status)
            for name, value in {"Content-Type": response.content_type, **response.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)

        do_POST = do_GET  # noqa: N815 the name the server calls

        def log_message(self, *_args: Any) -> None:
            """No log."""

    class Server(HTTPServer):
        def get_request(self) -> tuple[Any, Any]:
            connection, address = super().get_request()
            connection.settimeout(5)
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                try:
                    connection.do_handshake()
                except OSError:
                    # Read to the end, lest a reset overtake the alert that says why; the server takes the next one.
                    with connection, suppress(OSError):
                        socket.shutdown(connection, SHUT_WR)
                        while socket.recv(connection, 4096):
                            pass
                    raise
            return connection, address

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
