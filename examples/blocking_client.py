"""A script that calls a hub without async: `python examples/blocking_client.py http://127.0.0.1:8000/chat`."""

from __future__ import annotations

import sys

from hubproto_asyncio.blocking import connect


def main(url: str) -> None:
    """Call, listen to a stream, and send one."""
    with connect(url, reconnect=True) as hub:
        hub.on("said", lambda who, text: print(who, text))
        print("2 + 3 =", hub.invoke("Add", 2, 3, returns=int, timeout=10))
        with hub.stream("Counter", 3, 0.01) as items:  # leaving the block cancels the stream
            for item in items:
                print("item", item)
        print("uploaded", hub.invoke("Upload", hub.upload(word for word in ["a", "b"])))


if __name__ == "__main__":
    main(sys.argv[1])
