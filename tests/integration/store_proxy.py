"""A proxy before an S3 server, in its own process, which fails when a file tells it to.

The file holds `<status> <code> <count> [<pattern>]`: the answer to that many of the next requests
(whose `<method> <path>` matches), none of which reaches the server. With the status `lost` the
server gets the request, and its answer does not come back; with `cut` half of the answer's content
does; with `plain` a condition that was not met is told as met.
"""

import http.client
import re
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

_OWN = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class Proxy(BaseHTTPRequestHandler):
    """Hands on each request as it came, signature and all."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_place = ""
    orders = Path()
    lock = threading.Lock()

    def hand_on(self) -> None:
        body = self.body()
        order = self.next_order()
        if order and order[0].isdigit():
            text = f"<Error><Code>{order[1]}</Code><Message>no</Message></Error>".encode()
            self.answer(int(order[0]), [("Content-Type", "application/xml")], text)
            return
        server = http.client.HTTPConnection(self.server_place)
        server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "expect":
                server.putheader(name, value)
        server.endheaders(body)  # chunked as it came
        answer = server.getresponse()
        content = answer.read()
        self.close_connection = order[:1] in (["lost"], ["cut"])
        if order[:1] == ["plain"] and answer.status == HTTPStatus.PRECONDITION_FAILED:
            self.answer(HTTPStatus.OK, [], b"")
        elif order[:1] != ["lost"]:
            sent = len(content) // 2 if self.close_connection else len(content)
            self.answer(answer.status, answer.getheaders(), content, sent)
        server.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = hand_on  # noqa: N815 - the base names them so

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while parts[-2:] != [b"0\r\n", b"\r\n"]:
            size = self.rfile.readline()
            parts += [size, self.rfile.read(int(size, 16) + 2)]
        return b"".join(parts)

    def next_order(self) -> list[str]:
        with self.lock:
            order = self.orders.read_text().split(maxsplit=3) if self.orders.exists() else []
            request = f"{self.command} {self.path}"
            if not order or not int(order[2]) or not re.search("".join(order[3:]), request):
                return []
            self.orders.write_text(" ".join([*order[:2], str(int(order[2]) - 1), *order[3:]]))
            return order

    def answer(self, status, headers, content, sent=None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _OWN:
                self.send_header(name, value)
        is_head = self.command == "HEAD"
        size = dict(headers).get("Content-Length", "0") if is_head else len(content)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(size))
        self.end_headers()
        if not is_head:
            self.wfile.write(content[:sent])


if __name__ == "__main__":
    port, url, orders = sys.argv[1:]
    Proxy.server_place, Proxy.orders = urlsplit(url).netloc, Path(orders)
    with ThreadingHTTPServer(("127.0.0.1", int(port)), Proxy) as server:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        server.serve_forever()
