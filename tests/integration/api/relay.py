"""A TCP relay between a client and the server that can lose answers and cut connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Relay:
    """Forwards bytes both ways until told otherwise. Use `relaying`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.target = ""
        """Where clients connect to."""
        self.sent_bytes = 0
        """What clients have sent so far."""
        self.answers_lost = False
        """Whether what the server says is dropped instead of forwarded."""
        self.bytes_per_s = 0
        """How fast what the server says is forwarded at most; 0: at once."""

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client connection."""
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, server_writer}
        for pump in (
            asyncio.create_task(self._forward(reader, server_writer), name="relay-to-server"),
            asyncio.create_task(self._back(server_reader, writer), name="relay-to-client"),
        ):
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1 << 16):
            self.sent_bytes += len(chunk)
            writer.write(chunk)
            await writer.drain()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1 << 16 if not self.bytes_per_s else self.bytes_per_s // 10):
            if not self.answers_lost:
                writer.write(chunk)
                await writer.drain()
            if self.bytes_per_s:
                await asyncio.sleep(len(chunk) / self.bytes_per_s)

    async def cut(self) -> None:
        """Reset every connection on both sides: nothing that is under way arrives."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)


@asynccontextmanager
async def relaying(port: int) -> AsyncIterator[Relay]:
    """A relay to a port of this machine, on a port of its own; cut at the end."""
    relay = Relay(port)
    server = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
    relay.target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        await relay.cut()
        await server.wait_closed()
