"""A proxy between a store and its MongoDB server: it sees every command and can come between.

    lose_answers("update")   the server does the next one, the client's connection is cut instead
    hold("insert")           the next one does not reach the server until `release`; the client hears nothing

Both take the collection the command must name, if it matters.
"""

from __future__ import annotations

import asyncio
import os
import signal
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import bson

from tests.mongo import MongoServer

Document = dict[str, Any]

DEADLINE_S = 20.0
"""What a test waits for comes within this time, or fails it."""
_OP_MSG = 2013
_BODY = 21
"""Where the body of an OP_MSG begins: after a header of 16 bytes, flags of 4, and the section's kind."""
_ANY = ""


class MongoProxy:
    """Listens on a port of its own; `url` is the server's with that port."""

    def __init__(self, server_url: str) -> None:
        self._server = urlsplit(server_url)
        self._port = 0
        self._losing: dict[tuple[str, str], int] = {}
        self._holding: dict[tuple[str, str], int] = {}
        self._held = asyncio.Semaphore(0)
        self._released = asyncio.Event()
        self._under_way: set[int] = set()
        self._lost: set[int] = set()
        self._carried_out = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.commands: list[Document] = []
        """The body of every command that came, handshakes and monitors' excepted."""
        self.on_answer: Callable[[bytes], bytes] = lambda answer: answer
        """What becomes of the server's answers."""

    @property
    def url(self) -> str:
        """Where clients connect."""
        return self._server._replace(netloc=f"127.0.0.1:{self._port}").geturl()

    def names(self) -> list[str]:
        """The names of the commands that came, in order."""
        return [next(iter(command)) for command in self.commands]

    def lose_answers(self, command: str, *, named: str = _ANY, times: int = 1) -> None:
        """The answers to the next of these commands will not arrive, though they are carried out."""
        self._losing[command, named] = times

    def hold(self, command: str, *, named: str = _ANY, times: int = 1) -> None:
        """Keep the next of these commands back."""
        self._holding[command, named] = times

    def undisturbed(self) -> None:
        """From now on commands and answers pass; what is held stays held."""
        self._losing.clear()
        self._holding.clear()

    async def held(self) -> None:
        """Return when one more command is being held."""
        async with asyncio.timeout(DEADLINE_S):
            await self._held.acquire()

    async def release(self) -> None:
        """Let the held commands go to the server, and return when it has carried them out."""
        self._released.set()
        async with asyncio.timeout(DEADLINE_S):
            await self._carried_out.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[MongoProxy]:
        """Listen until the block ends."""
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, client_reader: StreamReader, client: StreamWriter) -> None:
        commands = asyncio.current_task()
        assert commands is not None
        server_reader, server = await asyncio.open_connection(self._server.hostname, self._server.port)
        answers = asyncio.create_task(self._answers(server_reader, client), name="answers")
        self._tasks |= {commands, answers}
        try:
            while (message := await _message(client_reader)) is not None:
                number = await self._command(message)
                server.write(message)
                await server.drain()
                if number in self._under_way:  # its client may be gone: the server still gets to it
                    await self._carried_out.wait()
        except (ConnectionError, asyncio.CancelledError):
            pass  # cancelled at the end of the test; asyncio would log a handler that says so
        finally:
            answers.cancel()
            server.close()
            client.close()
            self._tasks -= {commands, answers}

    async def _command(self, message: bytes) -> int:
        """The number of the message, once it may go to the server."""
        number: int = struct.unpack_from("<i", message, 4)[0]
        if struct.unpack_from("<i", message, 12)[0] != _OP_MSG:
            return number
        (size,) = struct.unpack_from("<i", message, _BODY)
        command = bson.decode(message[_BODY : _BODY + size])
        name, collection = next(iter(command.items()))
        if name in ("hello", "ismaster", "isMaster"):
            return number
        self.commands.append(command)
        if _counted(self._losing, name, collection):
            self._begin(number)
            self._lost.add(number)
        elif _counted(self._holding, name, collection):
            self._begin(number)
            self._held.release()
            await self._released.wait()
        return number

    def _begin(self, number: int) -> None:
        self._under_way.add(number)
        self._carried_out.clear()

    async def _answers(self, server: StreamReader, client: StreamWriter) -> None:
        try:
            while (message := await _message(server)) is not None:
                number: int = struct.unpack_from("<i", message, 8)[0]
                self._under_way.discard(number)
                if not self._under_way:
                    self._carried_out.set()
                if number in self._lost:
                    break
                client.write(self.on_answer(message))
                await client.drain()
        except ConnectionError:
            pass
        finally:
            client.close()


@contextmanager
def suspended(server: MongoServer) -> Iterator[None]:
    """The server stands still while the block runs."""
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        # A signal takes its time: until then the server may still answer.
        os.waitid(os.P_PID, pid, os.WSTOPPED)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _counted(planned: dict[tuple[str, str], int], command: str, collection: object) -> bool:
    """Whether the command is one of those planned, which are one less then."""
    for key in ((command, str(collection)), (command, _ANY)):
        if planned.get(key, 0) > 0:
            planned[key] -= 1
            return True
    return False


async def _message(reader: StreamReader) -> bytes | None:
    """The next whole message, or None at the end."""
    try:
        length = await reader.readexactly(4)
        return length + await reader.readexactly(struct.unpack("<i", length)[0] - 4)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
