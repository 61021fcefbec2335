"""A port that several processes of ours share, and that nobody else gets."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from server.shared_port import held_port


@contextmanager
def bound(port: int, *, shared: bool) -> Iterator[socket.socket]:
    """A listening socket as servers make it: over ended connections, with SO_REUSEPORT if it is shared."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        listening.bind(("", port))
        listening.listen()
        yield listening


def refused(port: int) -> bool:
    """Whether a server of its own does not get the port."""
    try:
        with bound(port, shared=False):
            return False
    except OSError as error:
        return error.errno == errno.EADDRINUSE


def connect(port: int) -> None:
    """Connect, and leave."""
    socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_several_share_it_and_every_connection_comes_to_one_of_them() -> None:
    with held_port(0) as port, bound(port, shared=True) as one, bound(port, shared=True) as other:
        for listening in (one, other):
            listening.setblocking(False)
        accepted = {one: 0, other: 0}
        for _ in range(64):
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                pass
        for listening in accepted:
            while True:
                try:
                    listening.accept()[0].close()
                except BlockingIOError:
                    break
                accepted[listening] += 1
        assert sum(accepted.values()) == 64
        assert min(accepted.values()) > 0


def test_it_is_held_also_while_nobody_listens() -> None:
    with held_port(0) as port:
        assert refused(port)
        with pytest.raises(ConnectionRefusedError):
            connect(port)
        with bound(port, shared=True):
            connect(port)
            assert refused(port)
        assert refused(port)
    assert not refused(port)


def test_a_second_holder_is_refused() -> None:
    with held_port(0) as port, pytest.raises(OSError, match="in use"), held_port(port):
        pass


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_on_which_somebody_listens_is_refused(shared: bool) -> None:
    with bound(0, shared=shared) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(OSError, match="in use"), held_port(port):
            pass


@pytest.mark.parametrize("shared", [False, True])
def test_connections_that_have_ended_are_not_in_its_way(shared: bool) -> None:
    """A restart: the server's end of a connection lingers for a minute (TIME_WAIT)."""
    with ExitStack() as stack:
        listening = stack.enter_context(bound(0, shared=shared))
        port = listening.getsockname()[1]
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        accepted = listening.accept()[0]
        accepted.close()  # the server first
        assert client.recv(1) == b""
    with held_port(port) as held:
        assert held == port
