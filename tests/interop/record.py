"""Fill in a file of conversations with what a server answers, so that the file tells the truth.

    python -m tests.interop.record URL FILE                the conversations with ordinary errors
    python -m tests.interop.record URL FILE --detailed     those with "detailed"; the server runs with LAB_DETAILED=1

URL is the base of Microsoft's lab server, such as http://127.0.0.1:5200. A conversation with a "better" member states
what is right where that server errs: it is left as it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from tests.interop import _conversations


def main() -> None:
    """Record the conversations of the file in place."""
    parser = argparse.ArgumentParser(description="Fill in a file of conversations with what a server answers.")
    parser.add_argument("url")
    parser.add_argument("file", type=Path)
    parser.add_argument("--detailed", action="store_true", help="record those that want detailed errors")
    options = parser.parse_args()
    lines = []
    for conversation in _conversations.load(options.file):
        wanted = conversation.detailed == options.detailed and not conversation.better
        told = _conversations.record(conversation, options.url) if wanted else conversation
        lines.append(msgspec.json.encode(told) + b"\n")
    options.file.write_bytes(b"".join(lines))


if __name__ == "__main__":
    main()
