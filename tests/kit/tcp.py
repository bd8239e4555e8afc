"""`Tcp`: a TCP connection (or a Unix socket) in the hands of a test, which may do with it what no proper peer does."""

from __future__ import annotations

import socket
import struct
from typing import Protocol, Self

__all__ = ["Tcp"]


class Readiness(Protocol):
    """What a socket needs of a runtime."""

    async def wait_readable(self, sock: socket.socket) -> None: ...
    async def wait_writable(self, sock: socket.socket) -> None: ...


class Tcp:
    """A TCP connection; leaving its `with` block closes it."""

    def __init__(self, rt: Readiness, sock: socket.socket) -> None:
        self._rt = rt
        self._socket = sock
        sock.setblocking(False)
        if sock.family != getattr(socket, "AF_UNIX", None):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    async def connect(cls, rt: Readiness, port: int) -> Self:
        """Open a connection to a port of this machine."""
        return cls(rt, socket.create_connection(("127.0.0.1", port)))  # of the kernel's backlog: it does not block

    @classmethod
    async def connect_unix(cls, rt: Readiness, path: str) -> Self:
        """Open a connection to a Unix socket."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        return cls(rt, sock)

    @classmethod
    async def connect_cramped(cls, rt: Readiness, port: int) -> Self:
        """Open a connection for which the kernels keep little, at either end: some 100 KB instead of megabytes."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1024)
        sock.connect(("127.0.0.1", port))
        return cls(rt, sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def send(self, data: bytes) -> None:
        """Send all of the data."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                await self._rt.wait_writable(self._socket)

    async def receive(self) -> bytes:
        """Return what comes next: nothing when the peer has ended the connection, in order or not."""
        while True:
            try:
                return self._socket.recv(65536)
            except BlockingIOError:
                await self._rt.wait_readable(self._socket)
            except ConnectionResetError:
                return b""

    async def receive_all(self) -> bytes:
        """Return all that comes until the peer ends the connection."""
        received = b""
        while data := await self.receive():
            received += data
        return received

    def send_eof(self) -> None:
        """Send no more."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End the connection in order."""
        self._socket.close()

    def reset(self) -> None:
        """End the connection at once, without a farewell."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
