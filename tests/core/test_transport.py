"""What a connection must know of its transport (SPEC 4.2, 4.4)."""

from hubproto_core import Transport


def test_transports_have_the_names_of_the_negotiation() -> None:
    assert [str(transport) for transport in Transport] == ["WebSockets", "ServerSentEvents", "LongPolling"]


def test_only_a_stream_of_events_carries_no_binary_messages() -> None:
    assert [transport for transport in Transport if "binary" not in transport.transfer_formats] == [
        Transport.SERVER_SENT_EVENTS
    ]
    assert all("text" in transport.transfer_formats for transport in Transport)


def test_only_polls_show_that_a_client_is_there() -> None:
    assert [transport for transport in Transport if transport.shows_life] == [Transport.LONG_POLLING]
