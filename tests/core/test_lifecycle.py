"""Who hears what becomes of a client's connection."""

from __future__ import annotations

import gc

import pytest

from hubproto_core import (
    Closed,
    Connected,
    Connecting,
    EndOfStream,
    EventStream,
    Reconnected,
    Reconnecting,
    TransportError,
    WouldBlock,
)
from hubproto_core._lifecycle import Lifecycle
from hubproto_core._logs import connection_facts
from tests.kit.shell import Shell

LOST = TransportError("lost")


class Heard:
    """A lifecycle, and what its callbacks have heard."""

    def __init__(self) -> None:
        self.shell = Shell()
        self.lifecycle = Lifecycle("host", self.shell.effects, connection_facts("http://h", None, None))
        self.calls: list[object] = []

    async def slowly(self, error: Exception | None) -> None:
        """A callback that the test ends."""


def taken(stream: EventStream) -> list[object]:
    events: list[object] = []
    while True:
        try:
            events.append(stream.receive_nowait())
        except WouldBlock:
            return events
        except EndOfStream:
            events.append("end")
            return events


def test_callbacks_get_what_the_event_says() -> None:
    heard = Heard()
    heard.lifecycle.add(Connecting, lambda: heard.calls.append("connecting"))
    for kind in (Connected, Reconnecting, Reconnected, Closed):
        heard.lifecycle.add(kind, lambda what, kind=kind: heard.calls.append((kind.__name__, what)))
    for event in (Connecting(), Connected("a"), Reconnecting(LOST), Reconnected(None), Closed(None)):
        heard.lifecycle.tell(event)
    heard.shell.run()
    assert heard.calls == [
        "connecting",
        ("Connected", "a"),
        ("Reconnecting", LOST),
        ("Reconnected", None),
        ("Closed", None),
    ]


def test_callbacks_run_one_after_another() -> None:
    heard = Heard()
    lifecycle, shell = heard.lifecycle, heard.shell
    lifecycle.add(Reconnecting, heard.slowly)
    lifecycle.add(Reconnecting, lambda error: heard.calls.append(error))
    lifecycle.add(Closed, lambda error: heard.calls.append("closed"))
    lifecycle.tell(Reconnecting(LOST))
    lifecycle.tell(Closed(None))
    slow = shell.find("on_reconnecting")
    assert [lifecycle.idle] == [False]
    assert heard.calls == []
    assert not shell.was_woken("host")
    shell.finish(slow)
    shell.cancel_asked()
    assert heard.calls == [LOST, "closed"]
    assert lifecycle.idle
    assert shell.was_woken("host")
    lifecycle.call_cancelled(slow)  # as trio says of every call at its end
    assert lifecycle.idle


def test_a_callback_that_fails_is_logged_and_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()

    def broken(error: Exception | None) -> None:
        raise KeyError("oh")

    heard.lifecycle.add(Closed, broken)
    heard.lifecycle.add(Closed, lambda error: heard.calls.append(error))
    heard.lifecycle.tell(Closed(LOST))
    heard.shell.run()
    assert heard.calls == [LOST]
    (record,) = caplog.records
    assert record.getMessage() == "the callback on_closed failed: KeyError: 'oh'"
    assert vars(record)["hub"] == "http://h"


def test_callbacks_can_be_cut_short() -> None:
    heard = Heard()
    lifecycle, shell = heard.lifecycle, heard.shell
    lifecycle.cancel()
    lifecycle.add(Closed, heard.slowly)
    lifecycle.add(Closed, lambda error: heard.calls.append(error))
    lifecycle.tell(Closed(None))
    shell.run()
    lifecycle.cancel()
    shell.cancel_asked()
    assert lifecycle.idle
    assert heard.calls == []


def test_callbacks_stream_nothing() -> None:
    heard = Heard()
    heard.lifecycle.add(Closed, heard.slowly)
    heard.lifecycle.tell(Closed(None))
    call = heard.shell.find("on_closed")
    assert heard.lifecycle.build_arguments(call, ()) == (None,)
    heard.lifecycle.call_waits(call)
    with pytest.raises(AssertionError, match="on_closed streams nothing"):
        heard.lifecycle.must_wait(call)
    with pytest.raises(AssertionError, match="on_closed streams nothing"):
        heard.lifecycle.open_stream(call, None)
    with pytest.raises(AssertionError, match="on_closed streams nothing"):
        heard.lifecycle.send_item(call, None)


def test_a_subscription_gets_every_event_up_to_the_end() -> None:
    heard = Heard()
    heard.lifecycle.tell(Connecting())
    stream = heard.lifecycle.subscribe()
    assert taken(stream) == []
    heard.lifecycle.tell(Connected("a"))
    assert heard.shell.was_woken(stream)
    heard.lifecycle.tell(Closed(LOST))
    heard.lifecycle.tell(Connecting())  # of the next start
    assert taken(stream) == [Connected("a"), Closed(LOST), "end"]
    stream.discard()
    heard.lifecycle.abandon(stream.stream_id)


def test_a_subscription_may_end_without_the_last_event() -> None:
    heard = Heard()
    stream = heard.lifecycle.subscribe()
    heard.lifecycle.end()
    assert heard.shell.was_woken(stream)
    assert taken(stream) == ["end"]


def test_a_subscription_ends_with_its_last_reference() -> None:
    heard = Heard()
    stream = heard.lifecycle.subscribe()
    assert len(heard.lifecycle._streams) == 1
    del stream
    gc.collect()
    assert len(heard.lifecycle._streams) == 0
