"""An S3-compatible store in its own process, which fails when a file tells it to.

The file holds `<status> <code> <count>`: the answer to that many of the next requests.
"""

import sys
import threading
from pathlib import Path

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple


class Failing:
    """A WSGI application that answers like a failing store, then like the real one."""

    def __init__(self, store, orders):
        self.store, self.orders, self.lock = store, orders, threading.Lock()

    def __call__(self, environ, start_response):
        with self.lock:
            order = self.orders.read_text().split() if self.orders.exists() else []
            if order and int(order[2]):
                self.orders.write_text(f"{order[0]} {order[1]} {int(order[2]) - 1}")
                start_response(f"{order[0]} {order[1]}", [("Content-Type", "application/xml")])
                return [f"<Error><Code>{order[1]}</Code><Message>no</Message></Error>".encode()]
        return self.store(environ, start_response)


if __name__ == "__main__":
    moto = DomainDispatcherApplication(create_backend_app)
    application = Failing(moto, Path(sys.argv[2]))
    run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True)
