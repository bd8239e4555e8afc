"""The command line that both adapters share: what was asked for, as data. Running it is the adapter's part."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import msgspec

from ._config import HubConfig
from ._hub import Hub

__all__ = ["Command", "InvokeCommand", "Protocol", "ServeCommand", "StreamCommand", "parse", "to_json"]

Protocol = Literal["json", "messagepack"]


@dataclass(frozen=True, slots=True)
class ServeCommand:
    """`serve MODULE:HUB`: serve a hub until a signal comes."""

    hub: Hub
    host: str
    port: int
    path: str
    config: HubConfig
    origins: tuple[str, ...] = ()

    def farewell(self, signal: str, *, again: bool) -> str:
        """Return what a server says when a signal comes, for the first time or after that."""
        if again:
            return f"{signal}: cancelling what still runs"
        seconds = self.config.shutdown_timeout
        return f"{signal}: shutting down; running calls have {seconds:g} s to end, another signal cancels them at once"


@dataclass(frozen=True, slots=True)
class InvokeCommand:
    """`invoke URL METHOD JSON-ARG...`: call a method once and print its result."""

    url: str
    method: str
    arguments: tuple[Any, ...]
    protocol: Protocol = "json"


@dataclass(frozen=True, slots=True)
class StreamCommand:
    """`stream URL METHOD JSON-ARG...`: print the items of a stream, one a line."""

    url: str
    method: str
    arguments: tuple[Any, ...]
    protocol: Protocol = "json"


Command = ServeCommand | InvokeCommand | StreamCommand


def parse(arguments: Sequence[str], program: str) -> Command:
    """Return what the arguments ask for. Exits with status 2 and one clear line when they ask for nothing sensible."""
    parser = argparse.ArgumentParser(prog=program, description="Serve SignalR hubs, and call them.")
    commands = parser.add_subparsers(dest="command", required=True)

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
    serve.add_argument("--detailed-errors", action="store_true", help="tell clients about exceptions")

    for name, help_text in (("invoke", "call a method and print its result"), ("stream", "print a stream's items")):
        call = commands.add_parser(name, help=help_text)
        call.add_argument("url", metavar="URL", help="address of the hub, for example http://127.0.0.1:8000/chat")
        call.add_argument("method", metavar="METHOD", help="the method's name")
        call.add_argument(
            "--protocol",
            choices=get_args(Protocol),
            default="json",
            help="encoding to ask the hub for (default: %(default)s)",
        )
        call.add_argument("arguments", metavar="JSON-ARG", nargs="*", type=_json, help="for example 5 or '\"text\"'")

    options = parser.parse_args(arguments)
    if options.command == "serve":
        hub = _load_hub(parser, options.hub)
        if not options.path.startswith("/"):
            parser.error(f"--path starts with a slash: {options.path!r}")
        config = replace(hub.config, detailed_errors=hub.config.detailed_errors or options.detailed_errors)
        return ServeCommand(hub, options.host, options.port, options.path, config, tuple(options.origin))
    kind = InvokeCommand if options.command == "invoke" else StreamCommand
    return kind(options.url, options.method, tuple(options.arguments), options.protocol)


def to_json(value: Any) -> str:
    """Return a result or an item as one line of JSON; what JSON has no notation for is shown as text."""
    return msgspec.json.encode(value, enc_hook=str).decode()


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        message = f"{text!r} is no JSON ({error}); text needs its quotes: '\"{text}\"'"
        raise argparse.ArgumentTypeError(message) from None


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
