"""The HTTP endpoint under fire: sockets of a server with a small hub, whose calls run in a synchronous interpreter."""

from __future__ import annotations

from collections.abc import AsyncIterator

import hubproto_core as hp
from fuzz.scripts import SECONDS, Script
from hubproto_core._binding import AnyBinder
from hubproto_core._framing import RecordBuffer
from hubproto_core.http import EndpointConfig, HttpConfig, HttpServerConnection, HubServer, Mount

CONFIG = hp.HubConfig(max_message_size=512, detailed_errors=True, max_parallel_calls=2)
JSON, MESSAGE_PACK = hp.JsonCodec(), hp.MessagePackCodec()
HTTP = HttpConfig(max_header_size=2048, max_body_size=256)


async def waits(text: str = "") -> str:
    raise NotImplementedError("the interpreter decides how this ends")


async def counts(count: int) -> AsyncIterator[int]:
    yield count  # never reached: the interpreter decides what is yielded


async def collects(items: AsyncIterator[int]) -> int:
    raise NotImplementedError("the interpreter reads the items")


def echo(value: object) -> object:
    return value


def fails() -> None:
    raise hp.HubError("as it must")


def hub() -> hp.Hub:
    """A method of each kind."""
    methods = hp.Hub(CONFIG)
    for function in (waits, counts, collects, echo, fails):
        methods.method()(function)
    return methods


HUB = hub()


class Site:
    """A server, its sockets, and the calls that run. `output` is what each socket has sent."""

    def __init__(self, script: Script, size: int | None) -> None:
        self.now = 0.0
        self.count = 0
        self.server = HubServer({"/hub": Mount(HUB, EndpointConfig(stateful=True))}, entropy=self.entropy, http=HTTP)
        self.running: list[hp.RunningCall] = []
        self.sockets: list[HttpServerConnection] = []
        self.output: list[bytearray] = []
        self.unread: list[bytearray] = []
        self.size = size
        self.open()
        for piece, operation in script.pieces(size):
            if piece:
                self.unread[-1] += piece
                self.serve()
            if operation is not None:
                self.operate(operation)
                self.serve()
        self.end()

    def entropy(self, size: int) -> bytes:
        """Never the same twice, and in each run the same."""
        self.count += 1
        return self.count.to_bytes(size, "big")

    def open(self) -> None:
        """Accept another socket."""
        self.sockets.append(self.server.connection(now=self.now))
        self.output.append(bytearray())
        self.unread.append(bytearray())

    def serve(self) -> None:
        """Carry out effects, read and write, until there is nothing to do."""
        busy = True
        while busy:
            busy = False
            while (effect := self.server.effects.take()) is not None:
                busy = True
                if isinstance(effect, hp.StartCall):
                    self.start(effect.call)
                elif isinstance(effect, hp.CancelCall) and effect.call in self.running:
                    self.running.remove(effect.call)
                    effect.call.session.call_cancelled(effect.call)
            for socket, output, unread in zip(self.sockets, self.output, self.unread, strict=True):
                if unread and socket.want_read:
                    size = self.size or len(unread)
                    socket.receive_data(bytes(unread[:size]), now=self.now)
                    del unread[:size]
                    busy = True
                elif (due := socket.next_timeout()) is not None and due <= self.now:  # the next turn of what was read
                    socket.handle_timeout(now=self.now)
                    busy = True
                if data := socket.data_to_send(now=self.now):
                    output += data
                    busy = True

    def start(self, call: hp.RunningCall) -> None:
        """Run a plain function at once; any other runs until an operation ends it."""
        if not call.inline:
            self.running.append(call)
            return
        try:
            result = call.function(*call.session.build_arguments(call, call.incoming))
        except hp.HubError as error:
            call.session.call_failed(call, error)
        else:
            call.session.call_returned(call, result)

    def operate(self, operation: int) -> None:
        """Let something happen: time, another socket, the end of one, or progress of a call."""
        kind, argument = operation & 7, operation >> 3
        if kind == 1:
            self.let_pass(SECONDS[argument & 3])
        elif kind == 2 and len(self.sockets) < 4:
            self.open()
        elif kind == 3:
            error = hp.TransportError("reset") if argument & 1 else None
            self.sockets[argument % len(self.sockets)].receive_eof(error, now=self.now)
        elif kind >= 4 and self.running:
            self.proceed(self.running[argument % len(self.running)], kind)

    def proceed(self, call: hp.RunningCall, kind: int) -> None:
        """Let a call that runs go on, or end."""
        if kind == 4:
            for stream in call.incoming:
                try:
                    stream.receive_nowait()
                except (hp.WouldBlock, hp.EndOfStream, hp.HubError):
                    continue
        elif kind == 5 and call.streams and not call.session.must_wait(call):
            call.session.send_item(call, 7)
        else:
            self.running.remove(call)
            if kind == 6:
                call.session.call_failed(call, hp.HubError("told to"))
            else:
                call.session.call_returned(call, None if call.streams else "done")

    def let_pass(self, seconds: float) -> None:
        """Advance the clock, and meet each deadline at its time."""
        end = self.now + seconds
        machines: list[HubServer | HttpServerConnection] = [self.server, *self.sockets]
        while (upcoming := min((d for m in machines if (d := m.next_timeout()) is not None), default=end + 1)) <= end:
            self.now = max(self.now, upcoming)
            for machine in machines:
                machine.handle_timeout(now=self.now)
            self.serve()
        self.now = end

    def end(self) -> None:
        """All sockets break: nothing may be left behind."""
        for socket in self.sockets:
            socket.receive_eof(hp.TransportError("the script is over"), now=self.now)
        self.serve()
        while self.running:
            call = self.running.pop()
            call.session.call_cancelled(call)
            self.serve()
        self.let_pass(100.0)
        assert all(socket.finished for socket in self.sockets), "a socket outlives its end"
        assert self.server.next_timeout() is None, "a timer outlives what it is for"
        self.server.shut_down(now=self.now)
        assert self.server.closed, "a session outlives its socket"


def heard(output: bytes) -> dict[str | None, list[str]]:
    """What a socket has sent: the HTTP answers, and the hub messages of a WebSocket by their ids.

    How many messages share a frame depends on the reads, and so does where a pong or a close frame comes.
    """
    http, switched, rest = output.partition(b"HTTP/1.1 101 ")
    if not switched:
        return {"http": [repr(http.partition(b"HTTP/1.1 400 ")[0])]}  # h11 describes what it has seen of a bad request
    head, _, frames = rest.partition(b"\r\n\r\n")
    said: dict[str | None, list[str]] = {"http": [repr(http + head)]}
    buffer = RecordBuffer()
    codec: hp.Codec = JSON
    while frames:
        kind, size, start = frames[0] & 15, frames[1], 2
        if size == 126:
            size, start = int.from_bytes(frames[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(frames[2:10], "big"), 10
        if kind in (1, 2):
            buffer.append(frames[start : start + size])
            codec = JSON if kind == 1 else MESSAGE_PACK
        frames = frames[start + size :]
    if (answer := buffer.take_text(None)) is not None:
        said["handshake"] = [repr(answer)]
    while (record := codec.next_record(buffer, None)) is not None:
        message = codec.decode(record, AnyBinder(), 64)
        said.setdefault(getattr(message, "invocation_id", None), []).append(repr(message))
    assert not len(buffer), "the last message is not whole"
    return said


def refusals(sockets: list[dict[str | None, list[str]]]) -> int:
    """How many calls were refused because their id was still that of another."""
    return sum("is already in use." in message for said in sockets for told in said.values() for message in told)


def ends(messages: list[str]) -> int:
    """How many of these messages end a call."""
    return sum(message.startswith("Completion(") for message in messages)


def endpoint(data: bytes) -> None:
    """Some sockets of a server: in one go and in small pieces they come to the same, order inside each id.

    But for where it ends: who closes a WebSocket or breaks it off, or the protocol, may or may not hear what was under
    way to it. And a call that is told to stop may be done with that before what follows is looked at, or not: then its
    id may be taken again, or not yet, and from there on it is another story; what two calls of the same id are answered
    may come in either order.
    """
    script = Script(data)
    whole = [heard(bytes(output)) for output in Site(script, None).output]
    cut = [heard(bytes(output)) for output in Site(script, script.small).output]
    if refusals(whole) != refusals(cut):
        return
    for one, other in zip(whole, cut, strict=True):
        for key in one.keys() & other.keys():
            if key is not None and max(ends(one[key]), ends(other[key])) > 1:
                continue
            common = min(len(one[key]), len(other[key]))
            assert one[key][:common] == other[key][:common], f"{one[key]} in one go, {other[key]} in pieces"
