"""How much two connections in memory do in a second of one CPU: `python -m benchmarks.throughput`.

Both ends work in the same process, so that each message is written once and read once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import hubproto_core as hp

COUNT = 100_000
BATCH = 100  # messages that travel together
CODECS: list[hp.Codec] = [hp.JsonCodec(), hp.MessagePackCodec()]


def connected(codec: hp.Codec) -> tuple[hp.HubConnection, hp.HubConnection]:
    """A client and a server whose handshake is done."""
    config = hp.HubConfig(max_message_size=None)
    client = hp.HubConnection(hp.Role.CLIENT, [codec], config=config, now=0.0)
    server = hp.HubConnection(hp.Role.SERVER, [codec], config=config, now=0.0)
    exchange(client, server)
    exchange(server, client)
    return client, server


def exchange(sender: hp.HubConnection, receiver: hp.HubConnection) -> list[hp.Event]:
    """Carry over what one has to say; return what the other makes of it."""
    receiver.receive_data(sender.data_to_send(now=0.0), now=0.0)
    events = []
    while (event := receiver.next_event(now=0.0)) is not None:
        events.append(event)
    return events


def calls(client: hp.HubConnection, server: hp.HubConnection) -> None:
    """Calls, each with its answer."""
    for _ in range(COUNT // BATCH):
        for number in range(BATCH):
            client.invoke("Add", [number, 1])
        for event in exchange(client, server):
            if isinstance(event, hp.Invocation) and event.invocation_id is not None:
                server.complete(event.invocation_id, event.arguments[0] + event.arguments[1])
        assert sum(isinstance(event, hp.Completion) for event in exchange(server, client)) == BATCH


def items_down(client: hp.HubConnection, server: hp.HubConnection) -> None:
    """Items of a stream that the server sends."""
    stream = client.stream("Count", [])
    exchange(client, server)
    for _ in range(COUNT // BATCH):
        for number in range(BATCH):
            server.send_item(stream, number)
        assert len(exchange(server, client)) == BATCH


def items_up(client: hp.HubConnection, server: hp.HubConnection) -> None:
    """Items of a stream that the client uploads."""
    upload = client.new_stream_id()
    client.invoke("Collect", [], stream_ids=[upload])
    exchange(client, server)
    for _ in range(COUNT // BATCH):
        for number in range(BATCH):
            client.send_item(upload, number)
        assert len(exchange(client, server)) == BATCH


WORK: dict[str, Callable[[hp.HubConnection, hp.HubConnection], None]] = {
    "pipelined calls": calls,
    "stream items down": items_down,
    "stream items up": items_up,
}


def main() -> None:
    print(f"{'a CPU-second':24} " + " ".join(f"{codec.name:>12}" for codec in CODECS))
    for name, work in WORK.items():
        rates = []
        for codec in CODECS:
            best = float("inf")
            for _ in range(3):
                client, server = connected(codec)
                start = time.process_time()
                work(client, server)
                best = min(best, time.process_time() - start)
            rates.append(COUNT / best)
        print(f"{name:24} " + " ".join(f"{rate:12,.0f}" for rate in rates), flush=True)


if __name__ == "__main__":
    main()
