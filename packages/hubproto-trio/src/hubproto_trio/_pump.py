"""`SocketPump`: moves bytes between one stream and one machine, and arms its one deadline."""

from __future__ import annotations

import math

import trio

from hubproto_core import TransportError
from hubproto_core.http import SocketMachine

from ._runner import Runner

__all__ = ["SocketPump"]

_READ_SIZE = 65536


class SocketPump:
    """One socket. Three tasks: one reads, one writes, and one watches the clock, even while a write is stuck."""

    def __init__(self, runner: Runner, machine: SocketMachine, stream: trio.abc.Stream) -> None:
        self._runner = runner
        self._machine = machine
        self._stream = stream
        self._woken = trio.Event()
        self._read_wanted = trio.Event()
        self._alarm = trio.CancelScope()
        self._sending = False
        self._everything = trio.CancelScope()

    async def run(self) -> None:
        """Run the machine until it is finished, then close the stream."""
        self._runner.add_pump(self._machine, self)
        try:
            async with trio.open_nursery() as nursery:
                self._everything = nursery.cancel_scope
                nursery.start_soon(self._read)
                nursery.start_soon(self._keep_time)
                await self._write()
                nursery.cancel_scope.cancel()
        finally:
            self._runner.remove_pump(self._machine)
            self._machine.receive_eof(TransportError("the connection was dropped"), now=trio.current_time())
            self._runner.run()
            await trio.aclose_forcefully(self._stream)

    def poke(self) -> None:
        """Look at the machine again: there may be output, or another deadline."""
        self._woken.set()
        if self._sending:  # the writer, which otherwise does all this, is stuck; reading on may be what helps
            self._machine.handle_timeout(now=trio.current_time())
            if self._machine.want_read:
                self._read_wanted.set()
            self._arm()
            deadline = self._machine.next_timeout()  # of the last bytes, where it is finished
            if self._machine.finished and (deadline is None or deadline <= trio.current_time()):
                self._everything.cancel()

    def _arm(self) -> None:
        deadline = self._machine.next_timeout()
        self._alarm.deadline = math.inf if deadline is None else deadline

    def _lost(self, error: Exception) -> None:
        self._machine.receive_eof(TransportError(f"the connection was lost: {error}"), now=trio.current_time())

    async def _read(self) -> None:
        while True:
            while not self._machine.want_read:
                self._read_wanted = trio.Event()
                await self._read_wanted.wait()
            try:
                data = await self._stream.receive_some(_READ_SIZE)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._lost(error)
                break
            if not data:
                self._machine.receive_eof(now=trio.current_time())
                break
            self._machine.receive_data(bytes(data), now=trio.current_time())
            self._runner.run()
            self.poke()
        self._runner.run()
        self.poke()

    async def _write(self) -> None:
        """The only writer: whatever there is to write, then wait until something happens."""
        while True:
            self._woken = trio.Event()
            data = self._machine.data_to_send(now=trio.current_time())
            self._runner.run()
            self._arm()
            if self._machine.want_read:
                self._read_wanted.set()
            if data:
                self._sending = True
                try:
                    await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    self._lost(error)
                    return
                self._sending = False
            elif self._machine.finished:
                return
            else:
                await self._woken.wait()

    async def _keep_time(self) -> None:
        while True:
            with trio.CancelScope() as self._alarm:
                self._arm()
                await trio.sleep_forever()
            self._machine.handle_timeout(now=trio.current_time())
            self._runner.run()
            self.poke()
