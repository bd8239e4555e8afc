"""The arguments of the command line: what they ask for, as data."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import msgspec

from .._config import HubConfig
from .._hub import Hub
from .._transport import Transport

__all__ = [
    "STDIN",
    "CallCommand",
    "ClientCommand",
    "Command",
    "InvokeCommand",
    "ListenCommand",
    "Protocol",
    "SendCommand",
    "ServeCommand",
    "StreamCommand",
    "Way",
    "parse",
]

Protocol = Literal["json", "messagepack"]

STDIN: object = object()
"""Stands for the argument `-`: an upload, whose items are the lines of the standard input."""

_TRANSPORTS = {
    "websockets": Transport.WEB_SOCKETS,
    "sse": Transport.SERVER_SENT_EVENTS,
    "longpolling": Transport.LONG_POLLING,
}


@dataclass(frozen=True, slots=True)
class ServeCommand:
    """`serve MODULE:HUB`: serve a hub until a signal comes."""

    hub: Hub
    host: str
    port: int
    path: str
    config: HubConfig
    origins: tuple[str, ...] = ()
    stateful: bool = False

    def farewell(self, signal: str, *, again: bool) -> str:
        """Return what a server says when a signal comes, for the first time or after that."""
        if again:
            return f"{signal}: cancelling what still runs"
        seconds = self.config.shutdown_timeout
        return f"{signal}: shutting down; running calls have {seconds:g} s to end, another signal cancels them at once"


@dataclass(frozen=True, slots=True)
class Way:
    """How to reach the hub at `url`."""

    url: str
    protocol: Protocol = "json"
    transports: tuple[Transport, ...] = tuple(Transport)
    access_token: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    insecure: bool = False
    """Take whatever certificate the server shows."""
    reconnect: bool = False
    stateful: bool = False
    connect_timeout: float = 30.0
    proxy: str | None = field(default=None, repr=False)

    @property
    def options(self) -> dict[str, Any]:
        """Of `HubClient`, in both adapters, but for what `insecure` asks for."""
        return {
            "protocol": self.protocol,
            "transports": self.transports,
            "access_token": self.access_token,
            "headers": self.headers,
            "reconnect": self.reconnect,
            "stateful": self.stateful,
            "connect_timeout": self.connect_timeout,
            "proxy": self.proxy,
        }


@dataclass(frozen=True, slots=True)
class CallCommand:
    """Something that calls a method of the hub."""

    way: Way
    method: str
    arguments: tuple[Any, ...] = ()
    """One of them may be `STDIN`."""

    def filled(self, upload: Callable[[], Any]) -> tuple[Any, ...]:
        """Return the arguments, with what `upload` returns in the place of `STDIN`."""
        return tuple(upload() if argument is STDIN else argument for argument in self.arguments)


@dataclass(frozen=True, slots=True)
class InvokeCommand(CallCommand):
    """`invoke URL METHOD JSON-ARG...`: call a method once and print its result."""


@dataclass(frozen=True, slots=True)
class StreamCommand(CallCommand):
    """`stream URL METHOD JSON-ARG...`: print the items of a stream, one a line."""


@dataclass(frozen=True, slots=True)
class SendCommand(CallCommand):
    """`send URL METHOD JSON-ARG...`: call a method without waiting for what it does."""


@dataclass(frozen=True, slots=True)
class ListenCommand:
    """`listen URL [TARGET...]`: print what the hub calls, one call a line."""

    way: Way
    targets: tuple[str, ...] = ()
    """Only these, in any case; all if there are none."""
    count: int | None = None
    """End after so many lines; None for never."""


ClientCommand = InvokeCommand | StreamCommand | SendCommand | ListenCommand
Command = ServeCommand | ClientCommand

_CALLS: dict[str, type[InvokeCommand | StreamCommand | SendCommand]] = {
    "invoke": InvokeCommand,
    "stream": StreamCommand,
    "send": SendCommand,
}

_ARGUMENTS = """\
Arguments are JSON: 5, true, null, '"text"', '{"x": 1}'. The argument - is an upload: its items are the lines of stdin,
each a line of JSON. Results go to stdout as JSON, one a line; everything else goes to stderr.
"""

_STATUS = """\
exit status: 0 in order, 1 for an error of the hub or the connection, 2 for arguments that make no sense, 130 for Ctrl-C
"""

_HELP = {
    "invoke": (
        "call a method and print its result",
        "Call a method of a hub, and print its result.",
        _ARGUMENTS,
        """\
examples:
  {program} invoke http://127.0.0.1:8000/chat Add 2 3
  {program} invoke --protocol messagepack --token "$TOKEN" https://example.com/chat Say '"hello"'
  seq 100 | {program} invoke http://127.0.0.1:8000/chat Sum -
""",
    ),
    "stream": (
        "print a stream's items",
        "Call a streaming method of a hub, and print its items as they come, until nobody reads them any more.",
        _ARGUMENTS,
        """\
examples:
  {program} stream http://127.0.0.1:8000/chat Counter 10 0.5
  {program} stream --transport sse http://127.0.0.1:8000/chat Counter 1000 0 | head -1
""",
    ),
    "send": (
        "call a method without waiting for it",
        "Call a method of a hub without waiting for what becomes of it: done when the call has left.",
        """\
Arguments are JSON: 5, true, null, '"text"', '{"x": 1}'.
""",
        """\
examples:
  {program} send http://127.0.0.1:8000/chat Say '"hello"'
""",
    ),
    "listen": (
        "print what a hub calls",
        "Print what a hub calls at its clients, until Ctrl-C or --count: one line of JSON for each call.",
        """\
A call looks like {"target":"said","arguments":["bob","hello"]}. A hub that asks for a result gets none.
""",
        """\
examples:
  {program} listen http://127.0.0.1:8000/chat
  {program} listen --reconnect https://example.com/chat said joined
  {program} listen --count 1 http://127.0.0.1:8000/chat said | jq .arguments
""",
    ),
}


def parse(arguments: Sequence[str], program: str) -> Command:
    """Return what the arguments ask for. Exits with status 2 and one clear line when they ask for nothing sensible."""
    parser = argparse.ArgumentParser(prog=program, description="Serve SignalR hubs, and call them.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    serve = commands.add_parser("serve", help="serve a hub over HTTP and WebSockets until a signal comes")
    serve.add_argument("hub", metavar="MODULE:HUB", help="where the Hub is, for example chat.hubs:hub")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8000, help="port to listen on, 0 for any (default: %(default)s)")
    serve.add_argument("--path", default="/", help="path of the hub (default: %(default)s)")
    serve.add_argument(
        "--origin",
        metavar="ORIGIN",
        action="append",
        default=[],
        help="another origin whose pages may use the hub, for example http://localhost:5173; may be repeated",
    )
    serve.add_argument("--stateful", action="store_true", help="let clients reconnect statefully, if they ask for it")
    serve.add_argument("--detailed-errors", action="store_true", help="tell clients about exceptions")

    parsers = {}
    for name, (summary, description, values, examples) in _HELP.items():
        command = parsers[name] = commands.add_parser(
            name,
            help=summary,
            description=description,
            epilog=f"{values}\n{examples.format(program=program)}\n{_STATUS}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("url", metavar="URL", help="address of the hub, for example http://127.0.0.1:8000/chat")
        if name == "listen":
            command.add_argument("targets", metavar="TARGET", nargs="*", help="what to print (default: everything)")
            command.add_argument("--count", metavar="N", type=_count, help="end after N lines")
        else:
            command.add_argument("method", metavar="METHOD", help="the method's name")
            command.add_argument(
                "arguments", metavar="JSON-ARG", nargs="*", type=_json, help="for example 5 or '\"text\"'"
            )
        _add_way(command)

    options = parser.parse_args(arguments)
    if options.command == "serve":
        hub = _load_hub(parser, options.hub)
        if not options.path.startswith("/"):
            parser.error(f"--path starts with a slash: {options.path!r}")
        config = replace(hub.config, detailed_errors=hub.config.detailed_errors or options.detailed_errors)
        origins = tuple(options.origin)
        return ServeCommand(hub, options.host, options.port, options.path, config, origins, options.stateful)
    way = _way(parsers[options.command], options)
    if options.command == "listen":
        return ListenCommand(way, tuple(options.targets), options.count)
    uploads = options.arguments.count(STDIN)
    if uploads > 1:
        parsers[options.command].error("there is only one stdin: - can be given once")
    if uploads and options.command == "send":
        parsers["send"].error("send waits for nothing, and so sends no upload: invoke does")
    return _CALLS[options.command](way, options.method, tuple(options.arguments))


class _Parser(argparse.ArgumentParser):
    """Takes options between the other arguments, too: `invoke URL METHOD --token T 1 2`."""

    _mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._mixing:
            return super().parse_known_args(args, namespace)
        self._mixing = True
        return self.parse_known_intermixed_args(args, namespace)


def _add_way(command: argparse.ArgumentParser) -> None:
    way = command.add_argument_group("the way to the hub")
    way.add_argument("--protocol", choices=get_args(Protocol), default="json", help="encoding (default: %(default)s)")
    way.add_argument(
        "--transport",
        choices=_TRANSPORTS,
        help="what carries the connection (default: the best that the server offers)",
    )
    way.add_argument("--token", help="access token, sent as a bearer token")
    way.add_argument(
        "--header",
        metavar="'NAME: VALUE'",
        action="append",
        default=[],
        type=_header,
        help="sent with every request; may be repeated",
    )
    way.add_argument("--insecure", action="store_true", help="take any certificate of the server's: for tests only")
    way.add_argument(
        "--reconnect", action="store_true", help="when the connection is lost, try again after 0, 2, 10 and 30 seconds"
    )
    way.add_argument(
        "--stateful", action="store_true", help="let calls outlive a broken WebSocket, where the server can do that"
    )
    way.add_argument(
        "--connect-timeout",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="how long an attempt to connect may take (default: %(default)g)",
    )
    way.add_argument(
        "--proxy",
        metavar="URL",
        help="the HTTP proxy to go through, or env for the one that HTTPS_PROXY and its like name",
    )


def _way(command: argparse.ArgumentParser, options: argparse.Namespace) -> Way:
    if options.transport == "sse" and options.protocol == "messagepack":
        command.error("server-sent events carry text only, and messagepack is none")
    headers = dict(options.header)
    if len(headers) < len(options.header):
        command.error("a header can be given once; several values go into one, with commas between them")
    return Way(
        options.url,
        protocol=options.protocol,
        transports=(_TRANSPORTS[options.transport],) if options.transport else tuple(Transport),
        access_token=options.token,
        headers=headers,
        insecure=options.insecure,
        reconnect=options.reconnect,
        stateful=options.stateful,
        connect_timeout=options.connect_timeout,
        proxy=options.proxy,
    )


def _json(text: str) -> Any:
    if text == "-":
        return STDIN
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        message = f"{text!r} is no JSON ({error}); text needs its quotes: '\"{text}\"'"
        raise argparse.ArgumentTypeError(message) from None


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is no header; write 'Name: value'")
    return name.strip().lower(), value.strip()


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines; write 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write seconds, more than 0")
    return seconds


def _load_hub(parser: argparse.ArgumentParser, reference: str) -> Hub:
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        parser.error(f"{reference!r} names no hub; write MODULE:HUB, for example chat.hubs:hub")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a module of the working directory, as with `python -m`
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise
        parser.error(f"there is no module {module_name!r} here or among the installed ones")
    hub = getattr(module, attribute, None)
    if not isinstance(hub, Hub):
        parser.error(f"{reference!r} is no Hub but {type(hub).__name__}")
    return hub
