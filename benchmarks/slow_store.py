"""An object store that answers late: a proxy that delays what it passes on to a real server.

Each connection costs one round trip, and each request one more; what is sent in one go arrives in
one go, so that only the latency changes and not the bandwidth.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from include.chimera.local.servers.ports import LOOPBACK, choose_port
from tests.integration.object_store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUND_TRIP_SECONDS = 0.02
_PORTION = 1 << 20


@contextmanager
def far_away(store: Store) -> Iterator[Store]:
    """Yield the same store, a round trip away."""
    port = choose_port(0)
    netloc = urlsplit(store.url).netloc
    proxy = multiprocessing.get_context("spawn").Process(
        target=serve, args=(port, netloc), daemon=True
    )
    proxy.start()
    try:
        yield Store(f"http://{LOOPBACK}:{port}")
    finally:
        proxy.kill()
        proxy.join()


def serve(port: int, netloc: str) -> None:
    """Pass connections on, delayed, until killed."""
    asyncio.run(_serve(port, *netloc.split(":")))


async def _serve(port: int, host: str, upstream: str) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(ROUND_TRIP_SECONDS)  # the handshake
        back, forth = await asyncio.open_connection(host, int(upstream))
        await asyncio.gather(_pump(reader, forth), _pump(back, writer), return_exceptions=True)

    async with await asyncio.start_server(handle, LOOPBACK, port) as server:
        await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let each portion arrive half a round trip after it was sent."""
    loop, sent = asyncio.get_running_loop(), asyncio.Queue[tuple[float, bytes]]()

    async def deliver() -> None:
        while True:
            due, data = await sent.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    delivery = asyncio.create_task(deliver())
    data = b"-"
    while data:
        try:
            data = await reader.read(_PORTION)
        except ConnectionError:
            data = b""
        sent.put_nowait((loop.time() + ROUND_TRIP_SECONDS / 2, data))
    await delivery
