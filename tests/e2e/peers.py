"""Peers that speak Slack's incoming webhooks and SMTP on loopback, and remember what they got."""

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler

from include.chimera.local.servers.ports import choose_port


@dataclass
class Inbox:
    """What a peer received: (seconds since the epoch, text), oldest first.

    Args:
        is_down: Whether the peer answers with a fault; then it remembers nothing.
    """

    taken: list[tuple[float, str]] = field(default_factory=list)
    is_down: bool = False

    def take(self, text: str) -> None:
        self.taken.append((time.time(), text))

    def find(self, *words: str) -> list[tuple[float, str]]:
        """Return what holds all of these words."""
        return [each for each in self.taken if all(word in each[1] for word in words)]

    def wait_for(self, *words: str, seconds: float = 60.0) -> str:
        """Return the first text with these words, and wait for it."""
        deadline = time.monotonic() + seconds
        while not self.find(*words):
            assert time.monotonic() < deadline, f"no {words} among {self.taken}"
            time.sleep(0.2)
        return self.find(*words)[0][1]


@contextmanager
def slack_server():
    """Yield the URL of a webhook and its inbox: 200 `ok` for blocks that Slack would take."""
    inbox = Inbox()

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fine = (
                body["text"]
                and len(body["blocks"]) <= 50
                and all(b["type"] in {"header", "section"} for b in body["blocks"])
                and all(0 < len(b["text"]["text"]) <= 3000 for b in body["blocks"])
            )
            code = 503 if inbox.is_down else 200 if fine else 400
            answer = b"ok" if code == 200 else b"invalid_blocks"
            if code == 200:
                inbox.take("\n".join([body["text"], *(b["text"]["text"] for b in body["blocks"])]))
            self.send_response(code)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/services/T0/B0/s3cr3t", inbox
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def mail_server():
    """Yield the port of an SMTP server and its inbox."""
    inbox = Inbox()

    class Keep(MessageHandler):
        def handle_message(self, message):
            parts = [
                p.get_payload(decode=True).decode() for p in message.walk() if not p.is_multipart()
            ]
            inbox.take("\n".join([str(message["subject"]), str(message["to"]), *parts]))

    port = choose_port(0)
    controller = Controller(Keep(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield port, inbox
    finally:
        controller.stop()
