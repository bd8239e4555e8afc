"""What waits for a slow peer, one message for each key."""

from hubproto_core._latest import Latest


def test_a_message_takes_the_place_of_the_one_with_its_key() -> None:
    latest = Latest()
    for key, message in (("a", b"a1"), ("b", b"b1"), ("c", b"c1"), ("a", b"a2")):
        latest.put(key, message)
    assert len(latest) == 3
    assert latest.take("b") == b"b1"
    assert latest.take("b") is None
    assert [latest.take_first(), latest.take_first()] == [b"a2", b"c1"]
    assert not latest


def test_each_key_counts_beside_its_message() -> None:
    latest = Latest()
    latest.put("a", b"x" * 10)
    assert latest.size == 266
    latest.put("a", b"x" * 30)
    assert latest.size == 286
    latest.put("a", b"")
    latest.put("b", b"x")
    assert latest.size == 513
    latest.take("a")
    assert latest.size == 257
    latest.take_first()
    assert latest.size == 0
