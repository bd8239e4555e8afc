"""`SocketPump`: moves bytes between one asyncio transport and one machine, and arms its one deadline."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from hubproto_core import TransportError
from hubproto_core.http import SocketMachine

from ._runner import Runner

__all__ = ["SocketPump"]


_NOT_SENT = 16384  # bytes; what trio chooses too


class SocketPump(asyncio.BufferedProtocol):
    """One socket. Input is fed and answered in the same step, without a task switch.

    It is read into the runner's buffer: that, and not what the loop likes, is how much one socket may give at a time.
    """

    def __init__(self, runner: Runner, make_machine: Callable[[], SocketMachine]) -> None:
        self._runner = runner
        self._make_machine = make_machine
        self._machine: SocketMachine
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._is_tls = False
        self._reading = True
        self._writing = True
        self._timer: asyncio.TimerHandle | None = None
        self._alarm = math.inf  # when the timer goes off
        self._lost: asyncio.Future[None] = self._loop.create_future()

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's are, but do not say so
        self._transport = transport
        self._is_tls = transport.get_extra_info("sslcontext") is not None
        _hold_little_in_the_kernel(transport)
        transport.set_write_buffer_limits(high=1)  # at 0, TLS transports count as full when they are empty
        self._machine = self._make_machine()
        self._runner.add_socket(self._machine, self)
        self._turn()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._runner.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._machine.receive_data(bytes(self._runner.read_buffer[:nbytes]), now=self._loop.time())
        self._turn()

    def eof_received(self) -> bool:
        self._machine.receive_eof(now=self._loop.time())
        self._turn()
        return not self._is_tls  # the pump closes it; but TLS cannot stay half open

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost.done():
            return
        self._runner.remove_socket(self._machine)
        self._disarm()
        self._lost.set_result(None)
        error = TransportError(f"the connection was lost: {exc or 'cut off'}")
        self._machine.receive_eof(error, now=self._loop.time())
        self._runner.run()

    def pause_writing(self) -> None:
        self._writing = False

    def resume_writing(self) -> None:
        self._writing = True
        self._loop.call_soon(self._turn)  # not in here: a transport that is closed meanwhile ends twice

    # the pump

    def address(self, which: str) -> tuple[str, int | None] | None:
        """Return an address of the socket, as ASGI writes it: "peername" or "sockname"."""
        name = self._transport.get_extra_info(which)
        if isinstance(name, tuple):
            return name[0], name[1]
        return (name, None) if name else None

    async def abort(self) -> None:
        """Drop the socket at once."""
        self._transport.abort()
        await self._lost

    def _turn(self) -> None:
        self._runner.flush_soon(self)
        self._runner.run()

    def flush(self) -> None:
        """Write what there is to write, then do what the machine wants next."""
        machine, transport = self._machine, self._transport
        if transport.is_closing():
            return
        now = self._loop.time()
        stuck = not self._writing
        if stuck:
            machine.handle_timeout(now=now)  # reading on may be what helps
        else:
            data = machine.data_to_send(now=now)
            if data:
                transport.write(data)
        if machine.finished:
            deadline = machine.next_timeout()  # of the last bytes: they, too, may be for somebody who takes none
            in_time = deadline is not None and deadline > now
            if stuck and not in_time:
                transport.abort()
            else:
                transport.close()
                self._disarm()
                self._arm(deadline)
            return
        if machine.want_read is not self._reading:
            self._reading = not self._reading
            if self._reading:
                transport.resume_reading()
            else:
                transport.pause_reading()
        self._arm(machine.next_timeout())

    def _arm(self, deadline: float | None) -> None:
        """See to it that the machine is asked at its deadline. A timer that is early is left to find that out."""
        if deadline is None or deadline >= self._alarm:
            return
        self._disarm()
        self._alarm = deadline
        self._timer = self._loop.call_at(deadline, self._fall_due)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._alarm = math.inf

    def _fall_due(self) -> None:
        self._alarm = math.inf
        if self._transport.is_closing():  # the last bytes were not taken in time
            self._transport.abort()
            return
        self._machine.handle_timeout(now=self._loop.time())
        self._turn()


def _hold_little_in_the_kernel(transport: asyncio.Transport) -> None:
    """Let the kernel take no more than is soon on its way: otherwise megabytes vanish there for a peer that is slow."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        with suppress(OSError):  # some systems refuse it for a peer that has gone already, which is noticed anyway
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, option, _NOT_SENT)
