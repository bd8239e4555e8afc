"""JSON token by token, as .NET reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubproto_core import RemoteProtocolError
from hubproto_core._codecs._json_reader import JsonReader, MalformedJson


def reader(text: str | bytes, max_depth: int = 64) -> JsonReader:
    return JsonReader(text.encode() if isinstance(text, str) else text, max_depth)


def tokens(text: str | bytes) -> list[str]:
    """The tokens of the first value, up to the first mistake ("!")."""
    found = []
    one = reader(text)
    depth = 0
    try:
        while True:
            kind = one.read()
            found.append(f"{kind}:{one.token.decode('utf-8', 'replace')}")
            depth += kind.startswith("Start") - kind.startswith("End")
            if depth == 0:
                return found
    except MalformedJson:
        return [*found, "!"]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (" \t\r\n{ } junk", ["StartObject:{", "EndObject:}"]),
        ("[]]", ["StartArray:[", "EndArray:]"]),
        (
            '{"a" : [1 , -2.5e+3,"b"],"c":{}}',
            [
                "StartObject:{",
                'PropertyName:"a"',
                "StartArray:[",
                "Number:1",
                "Number:-2.5e+3",
                'String:"b"',
                "EndArray:]",
                'PropertyName:"c"',
                "StartObject:{",
                "EndObject:}",
                "EndObject:}",
            ],
        ),
        ("trueish", ["True:true"]),
        ("false", ["False:false"]),
        ("null0", ["Null:null"]),
        ("0", ["Number:0"]),
        ("8}", ["Number:8"]),
        ("8/", ["Number:8"]),
        ('"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD800\x7f"x', ['String:"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD800\x7f"']),
        (b'"\xff"', ['String:"\ufffd"']),
    ],
)
def test_tokens(text: str | bytes, kinds: list[str]) -> None:
    assert tokens(text) == kinds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x",
        "\ufeff1",
        "\x0b1",
        "tru",
        "NaN",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "1x",
        "+1",
        "1.5.5",
        '"',
        '"a',
        '"\\x"',
        '"\\u12g4"',
        '"a\nb"',
        "'a'",
        "/**/1",
        "]",
        "}",
        ",",
    ],
)
def test_mistakes_in_the_first_token(text: str) -> None:
    assert tokens(text) == ["!"]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("[", 1),
        ("[1", 2),
        ("[1,", 2),
        ("[1,]", 2),
        ("[,1]", 1),
        ("[1 2]", 2),
        ("[1}", 2),
        ("{]", 1),
        ("{1:2}", 1),
        ('{"a"}', 1),
        ('{"a",1}', 1),
        ('{"a":}', 2),
        ('{"a":1 "b":2}', 3),
        ('{"a":1,}', 3),
        ('{,"a":1}', 1),
        ('{"a":1]', 3),
        ('{"a":"b":1}', 3),
        ('{"a":truex}', 3),
        ("[1:2]", 1),
    ],
)
def test_everything_before_a_mistake_is_read(text: str, read: int) -> None:
    found = tokens(text)
    assert found[-1] == "!"
    assert len(found) == read + 1


@pytest.mark.parametrize(("depth", "fits"), [(3, True), (4, False)])
def test_values_are_nested_as_deep_as_is_allowed(depth: int, fits: bool) -> None:
    one = reader("[" * depth + "]" * depth, max_depth=3)
    one.read()
    if fits:
        one.skip()
        assert one.kind == "EndArray"
    else:
        with pytest.raises(MalformedJson):
            one.skip()


def test_values_are_skipped_and_returned_as_they_are_written() -> None:
    one = reader('{"a": {"b":[1, {}]} ,"c": [ ],"d":1}')
    one.read_object()
    assert one.read_name() == "a"
    one.read()
    assert one.value() == b'{"b":[1, {}]}'
    assert one.read_name() == "c"
    one.read()
    one.skip()
    assert one.read_name() == "d"
    one.read()
    assert one.value() == b"1"
    assert one.read_name() is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('"type"', "type"),
        ('"t\\u0079pe"', "type"),
        ('""', ""),
        (b'"\xff"', ""),
        ('"\\ud800"', ""),
    ],
)
def test_names_are_compared_without_their_escapes(text: str | bytes, name: str) -> None:
    one = reader(b"{" + (text.encode() if isinstance(text, str) else text) + b":1}")
    one.read_object()
    assert one.read_name() == name


@pytest.mark.parametrize(
    ("name", "fails"),
    [
        ("\\ud800type", True),
        ("ty\\udc00", True),
        ("\\ud800", True),
        ("type\\ud800", True),
        ("tyre\\ud800", False),
        ("\udcff\\ud800", False),
        ("\\ud800" + "x" * 24, False),
    ],
)
def test_half_a_surrogate_pair_fails_where_a_known_name_may_stand(name: str, fails: bool) -> None:
    one = JsonReader(f'{{"{name}":1}}'.encode("utf-8", "surrogateescape"), 64, [b"type"])
    one.read_object()
    if not fails:
        assert one.read_name() == ""
        return
    with pytest.raises(RemoteProtocolError) as refused:
        one.read_name()
    assert refused.value.kind == "InvalidOperationException"


def refusal(read: Callable[[JsonReader], Any], text: str | bytes) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as refused:
        read(reader(text))
    return refused.value


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[]", "Array"),
        ("1", "Number"),
        ('"a"', "String"),
        ("true", "True"),
        ("false", "False"),
        ("null", "Null"),
    ],
)
def test_an_object_is_asked_for(text: str, kind: str) -> None:
    error = refusal(JsonReader.read_object, text)
    assert str(error) == f"Unexpected JSON Token Type '{kind}'. Expected a JSON Object."


def test_an_array_is_asked_for() -> None:
    reader("[]").read_array()
    error = refusal(JsonReader.read_array, "null")
    assert str(error) == "Unexpected JSON Token Type 'Null'. Expected a JSON Array."


def test_a_string_is_asked_for() -> None:
    assert reader('"\\ud83d\\ude00\u00e9"').read_string("target") == "\U0001f600\u00e9"
    for text in ("null", "1", "[", "{"):
        error = refusal(lambda one: one.read_string("target"), text)
        assert (str(error), error.kind) == ("Expected 'target' to be of type String.", "InvalidDataException")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'"\xff"', "Cannot transcode invalid UTF-8 JSON text to UTF-16 string."),
        (b'"\xed\xa0\x80"', "Cannot transcode invalid UTF-8 JSON text to UTF-16 string."),
        (b'"\\ud800"', "Cannot read incomplete UTF-16 JSON text as string with missing low surrogate."),
        (b'"\\udc00"', "Cannot read incomplete UTF-16 JSON text as string with missing low surrogate."),
    ],
)
def test_a_string_is_text(text: bytes, reason: str) -> None:
    error = refusal(lambda one: one.read_string("target"), text)
    assert (str(error), error.kind) == (reason, "InvalidOperationException")


def test_what_is_no_string_has_no_text() -> None:
    one = reader("[1]")
    one.read_array()
    one.read()
    with pytest.raises(RemoteProtocolError) as refused:
        one.text()
    assert str(refused.value) == "Cannot get the value of a token type 'Number' as a string."
    assert refused.value.kind == "InvalidOperationException"


def test_a_boolean_is_asked_for() -> None:
    assert reader("true").read_boolean("allowReconnect") is True
    assert reader("false").read_boolean("allowReconnect") is False
    error = refusal(lambda one: one.read_boolean("allowReconnect"), "null")
    assert str(error) == "Expected 'allowReconnect' to be true or false."


@pytest.mark.parametrize(
    ("text", "bits", "number"),
    [
        ("null", 32, None),
        ("-0", 32, 0),
        ("2147483647", 32, 2**31 - 1),
        ("-2147483648", 32, -(2**31)),
        ("9223372036854775807", 64, 2**63 - 1),
        ("-9223372036854775808", 64, -(2**63)),
    ],
)
def test_an_integer_is_asked_for(text: str, bits: int, number: int | None) -> None:
    assert reader(text).read_integer("type", bits) == number


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("2147483648", 32),
        ("-2147483649", 32),
        ("9223372036854775808", 64),
        ("9" * 5000, 64),
        ("1.0", 32),
        ("1e0", 32),
    ],
)
def test_an_integer_has_a_range(text: str, bits: int) -> None:
    error = refusal(lambda one: one.read_integer("type", bits), text)
    assert str(error) == (f"Either the JSON value is not in a supported format, or is out of bounds for an Int{bits}.")
    assert error.kind == "FormatException"


def test_a_number_is_asked_for() -> None:
    assert str(refusal(lambda one: one.read_integer("type", 32), '"1"')) == "Expected 'type' to be of type Number."


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=8,
)


@given(json_values, st.sampled_from([None, 1]))
def test_every_json_value_is_read(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    one = reader(text)
    one.read()
    assert one.value() == text.encode()


pieces = st.sampled_from(
    ["[", "]", "{", "}", ",", ":", '"', '"a"', '"a":', " ", "1", "-", ".", "e", "0", "true", "\\u"]
)


@given(st.lists(pieces, max_size=8).map("".join))
def test_what_is_read_is_json_and_what_is_json_is_read(text: str) -> None:
    def accepts(candidate: str) -> bool:
        one = reader(candidate)
        try:
            one.read()
            one.skip()
        except MalformedJson:
            return False
        return True

    try:
        _, end = json.JSONDecoder(parse_constant=_refuse).raw_decode(text.lstrip(" "))
    except ValueError:
        assert not accepts(text)
    else:
        assert accepts(text.lstrip(" ")[:end])


def _refuse(name: str) -> None:
    raise ValueError(name)
