"""Where we do not do what a peer does, each with the reason. An entry that agrees fails its test."""

from __future__ import annotations

_STRICT_CHUNKS = (
    "the JavaScript client wants whole records in each message of the transport; we wait for the rest, as .NET does"
)
_BINDS_LATER = (
    "the JavaScript client gives the connection up over a message that is too short; for .NET, and for us, the call "
    "or the item fails and the connection lives on"
)
_TOLERANT_EVENTS = (
    "the .NET client's own parser, up to version 9, took no line end but CRLF; we read what browsers read, as the "
    "clients since then do"
)

_NIL_KEY = "a map has nil for a key: .NET has no dictionary for that, Python has"

VECTORS: dict[str, str] = {
    "json-js-comp-falsy-result-and-error": (
        "the JavaScript client takes a falsy result for none; .NET and the specification refuse any beside an error"
    ),
    "json-js-incomplete": _STRICT_CHUNKS,
    "mp-js-err-prefix-cut": _STRICT_CHUNKS,
    "mp-js-err-inv-short": _BINDS_LATER,
    "mp-js-err-item-short": _BINDS_LATER,
    "sse-dec-strict-lf": _TOLERANT_EVENTS,
    "sse-dec-strict-bare-lf": _TOLERANT_EVENTS,
}
"""Vectors by their ids. Fewer than twelve."""

VERDICTS: dict[str, str] = {
    (
        "messagepack 68940280a378797a86aa537472696e6750726f70a85369676e616c5221aa1b6f75626c6550726f70cb401921"
        "fb5442cf12a7496e740a50726f702aac4461746554696d6550726f70d6ff58ec1c80a84e756c6c50726f70c0ab4279746541"
        "727250726f70c403010203"
    ): _NIL_KEY,
    (
        "messagepack 69950380a378797a0386aa53807472696e6750726f70a85369676e616c5221aa446f75626c6550726f70cb40"
        "1921fb5442cf12a7496e7450726f702aac4461746554696d6550726f70d6ff58ec1c80a84e756c6c50726f70c0ab42797465"
        "41727250726f70c403010203"
    ): _NIL_KEY,
    (
        "messagepack 9602980183a3466f6fa3426172b24b6579576974680a4e65770d0a4c696e6573ab5374696c6c20576f726b73"
        "b156616c7565576974684e65774c696e6573b0416c736f0a576f726b730d0a46696e65c0a66d6574686f649286aa53747269"
        "6e6750726f70a85369676e616c5221aa446f75626c6550726f70cb401921fb5442cf12a76e7450726f702aac446174655469"
        "6d6550726f70d6ff58ec1c80a84e756c6c50726f70c0ab4279746541727250726f70c40301020386aa537472696e6750726f"
        "70a85369676e616c5221aa446f75626c6550726f70cb401921fb5442cf12a7496e7450726f702aac4461746554696d655072"
        "6f70d6ff58ec1c80a84e756c6c50726f70c0ab4279746541727250726f70c40301020390"
    ): _NIL_KEY,
}
"""Inputs whose verdict is another one in class or envelope, by protocol and input. Forty at most."""

TEXTS: dict[str, str] = {}
"""Inputs that end a connection for the same reason in other words, or under another exception's name."""

LIVE: dict[str, str] = {}
"""Mutated inputs of test_differential.py, by their kind and bytes."""
