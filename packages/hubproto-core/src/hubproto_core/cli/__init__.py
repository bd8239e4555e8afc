"""The command line that both adapters share: what was asked for, as data; what is shown, and how it ends.

Running it is the adapter's part: it connects, calls, and moves the bytes of the standard streams.
"""

from __future__ import annotations

from ._console import Console
from ._listening import Listening
from ._parse import (
    STDIN,
    CallCommand,
    ClientCommand,
    Command,
    InvokeCommand,
    ListenCommand,
    Protocol,
    SendCommand,
    ServeCommand,
    StreamCommand,
    Way,
    parse,
)
from ._values import JsonLines, to_json, to_line

__all__ = [
    "STDIN",
    "CallCommand",
    "ClientCommand",
    "Command",
    "Console",
    "InvokeCommand",
    "JsonLines",
    "ListenCommand",
    "Listening",
    "Protocol",
    "SendCommand",
    "ServeCommand",
    "StreamCommand",
    "Way",
    "parse",
    "to_json",
    "to_line",
]
