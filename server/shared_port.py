"""One TCP port for several processes of ours, and for nobody else.

With SO_REUSEPORT the kernel spreads new connections over all sockets that listen on a port, and leaves out
those of a process that has died. It would let a second instance of the service share the port as silently.

To find out whether it is alone the supervisor listens for an instant itself: a connection that is made then
is reset, as one before would have been refused.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_port(port: int) -> Iterator[int]:
    """Hold the port, a free one for 0, for processes of this user that listen on it with SO_REUSEPORT.

    Yields the port. OSError when somebody listens on it already, in whatever way, or holds it like this.
    While it is held, whoever binds it without SO_REUSEPORT is refused, also while no process of ours lives.
    """
    with _any_address() as alone:
        alone.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # connections that have ended are no owners
        alone.bind(("", port))
        alone.listen()  # of those bound so at most one may: here it is decided who is alone
        port = alone.getsockname()[1]
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder = _any_address()
        try:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(("", port))  # and it never listens: no connection comes to it
            holder.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 0
            )  # else it would not be in others' way
        except BaseException:
            holder.close()
            raise
    with holder:
        yield port


def _any_address() -> socket.socket:
    """A socket for every address, as gRPC's is: IPv6 and IPv4 where there is both."""
    if not socket.has_dualstack_ipv6():
        return socket.socket(socket.AF_INET)
    both = socket.socket(socket.AF_INET6)
    both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return both
