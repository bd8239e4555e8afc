"""The JSON hub protocol: what is read, what is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from hubproto_core import (
    Ack,
    CancelInvocation,
    Close,
    Completion,
    HubError,
    HubMessage,
    Invocation,
    InvocationBindingFailure,
    JsonCodec,
    LocalProtocolError,
    Ping,
    RemoteProtocolError,
    SequenceMessage,
    Shape,
    StreamBindingFailure,
    StreamInvocation,
    StreamItem,
)
from hubproto_core._binding import AnyBinder
from hubproto_core._framing import RecordBuffer

CODEC = JsonCodec()


@dataclass
class Point:
    x: int
    y: int


class Declared:
    """Knows some methods, one stream and two calls."""

    def arguments_shape(self, target: str) -> Shape:
        types: dict[str, tuple[Any, ...]] = {
            "Add": (int, int),
            "Move": (Point, str),
            "Note": (int, Any),
            "Nothing": (),
        }
        if target == "Log":
            return Shape(tuple[str, ...])
        if target not in types:
            raise HubError("Method does not exist.")
        return Shape.of_arguments(types[target])

    def item_shape(self, stream_id: str) -> Shape:
        if stream_id != "s":
            raise HubError("no such stream")
        return Shape(int)

    def result_shape(self, invocation_id: str) -> Shape:
        shapes = {"1": Shape(int), "2": Shape(int | None)}
        if invocation_id not in shapes:
            raise HubError("no such call")
        return shapes[invocation_id]


def decode(text: str | bytes) -> HubMessage | None:
    return CODEC.decode(text.encode() if isinstance(text, str) else text, AnyBinder(), 64)


def decode_declared(text: str) -> HubMessage | None:
    return CODEC.decode(text.encode(), Declared(), 64)


def refusal(text: str | bytes) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as refused:
        decode(text)
    return refused.value


def written(message: HubMessage) -> str:
    data = CODEC.encode(message)
    assert data.endswith(b"\x1e")
    return data[:-1].decode()


def test_facts() -> None:
    assert (CODEC.name, CODEC.version, CODEC.transfer_format) == ("json", 2, "text")


def test_records_are_taken_up_to_their_separator() -> None:
    buffer = RecordBuffer()
    buffer.append(b'{"type":6}\x1e{')
    assert CODEC.next_record(buffer, 100) == b'{"type":6}'
    assert CODEC.next_record(buffer, 100) is None


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"type":1,"target":"Add","arguments":[1,2]}',
            Invocation(target="Add", arguments=(1, 2)),
        ),
        (
            '{"arguments":[],"streamIds":["a","b"],"invocationId":"7","target":"Up","type":1}',
            Invocation(invocation_id="7", target="Up", arguments=(), stream_ids=("a", "b")),
        ),
        (
            '{"type":1,"invocationId":"","target":"Add","arguments":[],"streamIds":[]}',
            Invocation(target="Add", arguments=(), stream_ids=()),
        ),
        (
            '{"type":4,"invocationId":"7","target":"Count","arguments":[3],"headers":{"trace":"a"}}',
            StreamInvocation(invocation_id="7", target="Count", arguments=(3,), headers={"trace": "a"}),
        ),
        ('{"type":2,"item":null,"invocationId":"7"}', StreamItem(invocation_id="7", item=None)),
        ('{"type":2,"invocationId":"7","item":{"a":[1]}}', StreamItem(invocation_id="7", item={"a": [1]})),
        ('{"type":3,"invocationId":"7"}', Completion(invocation_id="7")),
        ('{"type":3,"invocationId":"7","result":null}', Completion(invocation_id="7", result=None)),
        ('{"type":3,"invocationId":"7","result":0.5}', Completion(invocation_id="7", result=0.5)),
        ('{"type":3,"invocationId":"7","error":"no"}', Completion(invocation_id="7", error="no")),
        ('{"type":3,"invocationId":"7","error":""}', Completion(invocation_id="7", error="")),
        ('{"type":5,"invocationId":"7"}', CancelInvocation(invocation_id="7")),
        ('{"type":6}', Ping()),
        (' \t\r\n{ "type" : 6 } \n', Ping()),
        ('{"type":7}', Close()),
        ('{"type":7,"error":"","allowReconnect":true}', Close(error="", allow_reconnect=True)),
        ('{"type":7,"allowReconnect":false}', Close()),
        ('{"type":8,"sequenceId":9223372036854775807}', Ack(sequence_id=2**63 - 1)),
        ('{"type":9,"sequenceId":-1}', SequenceMessage(sequence_id=-1)),
    ],
)
def test_messages_are_read(text: str, message: HubMessage) -> None:
    assert decode(text) == message


@pytest.mark.parametrize(
    "text",
    [
        '{"type":6,"unknown":{"type":1,"deep":[{}]}}',
        '{"type":1,"type":6}',
        '{"t\\u0079pe":6}',
        '{"type":1,"t\\u0079pe":6}',
        '{"type":6,"Error":5,"TYPE":1}',
        '{"type":6,"note":"caf\u00e9 \u2603 \U0001f600"}',
        '{"type":6,"note":"\\u00e9"}',
        '{"type":6,"headers":{}}',
    ],
)
def test_unknown_members_repeated_members_and_escaped_names_are_understood(text: str) -> None:
    assert decode(text) == Ping()


@pytest.mark.parametrize("number", ["0", "10", "99", "-1", "2147483647"])
def test_unknown_types_are_no_message(number: str) -> None:
    assert decode(f'{{"type":{number},"target":"Add"}}') is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Error reading JSON."),
        ("hello", "Error reading JSON."),
        ('{"type":6', "Error reading JSON."),
        ('{"type":6,}', "Error reading JSON."),
        ('{"type":6,/* comment */"x":1}', "Error reading JSON."),
        ('{"type":6,"x":NaN}', "Error reading JSON."),
        ('{"type":6,"x":01}', "Error reading JSON."),
        ("\ufeff{}", "Error reading JSON."),
        ("[]", "Unexpected JSON Token Type 'Array'. Expected a JSON Object."),
        ("42", "Unexpected JSON Token Type 'Number'. Expected a JSON Object."),
        ("-1", "Unexpected JSON Token Type 'Number'. Expected a JSON Object."),
        ('"text"', "Unexpected JSON Token Type 'String'. Expected a JSON Object."),
        (" true", "Unexpected JSON Token Type 'True'. Expected a JSON Object."),
        ("false", "Unexpected JSON Token Type 'False'. Expected a JSON Object."),
        ("null", "Unexpected JSON Token Type 'Null'. Expected a JSON Object."),
        ("{}", "Missing required property 'type'."),
        ('{"Type":6}', "Missing required property 'type'."),
        ('{"type":null}', "Expected 'type' to be of type Number."),
        ('{"type":"6"}', "Expected 'type' to be of type Number."),
        ('{"type":true}', "Expected 'type' to be of type Number."),
        ('{"type":6,"invocationId":1}', "Expected 'invocationId' to be of type String."),
        ('{"type":6,"invocationId":null}', "Expected 'invocationId' to be of type String."),
        ('{"type":6,"target":[]}', "Expected 'target' to be of type String."),
        ('{"type":6,"error":1}', "Expected 'error' to be of type String."),
        ('{"type":6,"error":null}', "Expected 'error' to be of type String."),
        ('{"type":6,"arguments":null}', "Expected 'arguments' to be of type Array."),
        ('{"type":6,"arguments":{}}', "Expected 'arguments' to be of type Array."),
        ('{"type":6,"streamIds":"a"}', "Expected 'streamIds' to be of type Array."),
        ('{"type":6,"streamIds":null}', "Expected 'streamIds' to be of type Array."),
        ('{"type":6,"streamIds":["a",null]}', "Null value for 'streamIds' is not valid."),
        ('{"type":"6","x":nonsense', "Expected 'type' to be of type Number."),
        ('{"type":"6","type":6}', "Expected 'type' to be of type Number."),
        ('{"arguments":null,"arguments":[],"type":6}', "Expected 'arguments' to be of type Array."),
        ('{"type":6,"headers":{"a":{"b":', "Expected header 'a' to be of type String."),
        ('{"type":6,"target":"A"', "Error reading JSON."),
        ('{"type":6,"item":nonsense,"invocationId":"1"}', "Error reading JSON."),
        ('{"type":6,"invocationId":"1","item":nonsense}', "Error reading JSON."),
        ('{"type":6,"item":[nonsense],"invocationId":"1"}', "Error reading JSON."),
        ('{"type":6,"invocationId":"","item":[nonsense]}', "Error reading JSON."),
        ('{"type":6,"invocationId":"1","result":[nonsense]}', "Error reading JSON."),
        ('{"type":6,"target":"A","arguments":[nonsense]}', "Error reading JSON."),
        ('{"type":6,"headers":[]}', "Expected 'headers' to be of type StartObject."),
        ('{"type":6,"headers":null}', "Expected 'headers' to be of type StartObject."),
        ('{"type":6,"headers":{"a":"b","trace":1}}', "Expected header 'trace' to be of type String."),
        ('{"type":6,"allowReconnect":1}', "Expected 'allowReconnect' to be true or false."),
        ('{"type":6,"allowReconnect":null}', "Expected 'allowReconnect' to be true or false."),
        ('{"type":6,"sequenceId":"1"}', "Expected 'sequenceId' to be of type Number."),
        ('{"type":8}', "Missing required property 'sequenceId'."),
        ('{"type":9,"sequenceId":null}', "Missing required property 'sequenceId'."),
        ('{"type":1,"arguments":[]}', "Missing required property 'target'."),
        ('{"type":1,"target":"","arguments":[]}', "Missing required property 'target'."),
        ('{"type":1,"target":"Add"}', "Missing required property 'arguments'."),
        ('{"type":4,"target":"Add","arguments":[]}', "Missing required property 'invocationId'."),
        ('{"type":4,"target":"","arguments":[]}', "Missing required property 'invocationId'."),
        ('{"type":4,"target":"Add"}', "Missing required property 'invocationId'."),
        ('{"type":4,"invocationId":"1","target":"Add"}', "Missing required property 'arguments'."),
        ('{"type":4,"invocationId":"1","target":"","arguments":[]}', "Missing required property 'target'."),
        ('{"type":4}', "Missing required property 'target'."),
        ('{"type":4,"invocationId":"","target":"Add","arguments":[]}', "Missing required property 'invocationId'."),
        ('{"type":2,"item":1}', "Missing required property 'invocationId'."),
        ('{"type":2,"invocationId":"1"}', "Missing required property 'item'."),
        ('{"type":3}', "Missing required property 'invocationId'."),
        (
            '{"type":3,"invocationId":"1","error":"","result":null}',
            "The 'error' and 'result' properties are mutually exclusive.",
        ),
        ('{"type":5,"invocationId":""}', "Missing required property 'invocationId'."),
    ],
)
def test_malformed_records_are_refused_in_the_reference_s_words(text: str, reason: str) -> None:
    error = refusal(text)
    assert (str(error), error.kind) == (reason, "InvalidDataException")


def test_of_many_members_the_wrong_one_is_named() -> None:
    right = (
        '"invocationId":"1","target":"A","arguments":[],"streamIds":["a"],"headers":{"a":"b"},"error":"",'
        '"allowReconnect":true,"sequenceId":null,"type":6,"item":1'
    )
    assert decode(f"{{{right}}}") == Ping()
    assert str(refusal(f'{{{right},"type":"6"}}')) == "Expected 'type' to be of type Number."


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("type", "1.0"),
        ("type", "6.5"),
        ("type", "1e0"),
        ("type", "2147483648"),
        ("type", "-2147483649"),
        ("type", "9" * 5000),
        ("sequenceId", "1.0"),
        ("sequenceId", "9223372036854775808"),
        ("sequenceId", "9" * 30),
    ],
)
def test_numbers_must_be_integers_in_range(member: str, value: str) -> None:
    first = "" if member == "type" else '"type":8,'
    assert refusal(f'{{{first}"{member}":{value}}}').kind == "FormatException"


NO_TEXT = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\\ud800", b"\\udc00\\ud800"]


@pytest.mark.parametrize("junk", NO_TEXT)
def test_strings_of_the_envelope_are_text(junk: bytes) -> None:
    for member in (
        b'"error":"%b"',
        b'"target":"%b"',
        b'"streamIds":["%b"]',
        b'"headers":{"%b":""}',
        b'"headers":{"":"%b"}',
    ):
        assert refusal(b'{"type":7,' + member % junk + b"}").kind == "InvalidOperationException"
    assert str(refusal(junk)) == "Error reading JSON."


@pytest.mark.parametrize("junk", NO_TEXT)
def test_what_is_skipped_need_not_be_text(junk: bytes) -> None:
    assert decode(b'{"type":6,"note":"' + junk + b'","note' + junk + b'":1}') == Ping()
    assert decode(b'{"type":6,"item":"' + junk + b'"}') == Ping()


@pytest.mark.parametrize("junk", NO_TEXT)
def test_payloads_of_no_declared_type_are_repaired_to_be_text(junk: bytes) -> None:
    call = decode(b'{"type":1,"target":"A","arguments":["' + junk + b'"]}')
    assert isinstance(call, Invocation)
    assert set(call.arguments[0]) == {"\ufffd"}
    item = decode(b'{"type":2,"invocationId":"1","item":["' + junk + b'"]}')
    assert isinstance(item, StreamItem)
    assert set(item.item[0]) == {"\ufffd"}
    completion = decode(b'{"type":3,"invocationId":"1","result":"' + junk + b'"}')
    assert isinstance(completion, Completion)
    assert set(str(completion.result)) == {"\ufffd"}


@pytest.mark.parametrize("junk", NO_TEXT)
def test_payloads_of_a_declared_type_must_be_text(junk: bytes) -> None:
    call = CODEC.decode(b'{"type":1,"target":"Log","arguments":["%b"]}' % junk, Declared(), 64)
    assert isinstance(call, InvocationBindingFailure)
    assert str(call.error) == WRONG_TYPE
    item = CODEC.decode(b'{"type":2,"invocationId":"s","item":"%b"}' % junk, Declared(), 64)
    assert isinstance(item, StreamBindingFailure)


def test_arguments_are_repaired_one_by_one() -> None:
    call = CODEC.decode(b'{"type":1,"target":"Note","arguments":[1,"\xff"]}', Declared(), 64)
    assert call == Invocation(target="Note", arguments=(1, "\ufffd"))
    for arguments in (b'["\xff",1]', b'[1,"\xff",2]', b'[1,"\\ud800"]'):
        call = CODEC.decode(b'{"type":1,"target":"Note","arguments":%b}' % arguments, Declared(), 64)
        assert isinstance(call, InvocationBindingFailure)


@pytest.mark.parametrize("behind", ["junk", " {}", "}", "/* comment */", '{"type":7}', "\ufeff", "\ud800"])
def test_what_follows_the_object_does_not_matter(behind: str) -> None:
    assert decode(b'{"type":6}' + behind.encode("utf-8", "surrogatepass")) == Ping()


@pytest.mark.parametrize("item", ["[1,]", '{"a":}', '{"a":NaN}', "[", "[" * 100])
@pytest.mark.parametrize("rest", [',"type":2}', ',"type":3,"target":nonsense', ""])
def test_an_item_that_is_no_json_is_a_failure_of_its_stream_only(item: str, rest: str) -> None:
    message = decode(f'{{"invocationId":"7","item":{item}{rest}')
    assert isinstance(message, StreamBindingFailure)
    assert message.invocation_id == "7"
    assert isinstance(message.error, RemoteProtocolError)
    assert message.error.kind == "JsonException"


@pytest.mark.parametrize(
    "record",
    [
        '{"invocationId":"7","item":1}',
        '{"type":3,"invocationId":"7","item":1',
        '{"type":2,"invocationId":"7","item":1,"item":2}x',
    ],
)
def test_an_item_that_does_not_bind_hides_what_else_is_wrong(record: str) -> None:
    message = decode_declared(record)
    assert isinstance(message, StreamBindingFailure)
    assert message.invocation_id == "7"
    assert isinstance(message.error, HubError)


def test_an_item_that_binds_hides_nothing() -> None:
    assert str(refusal('{"invocationId":"7","item":1}')) == "Missing required property 'type'."


@pytest.mark.parametrize(
    "members",
    [
        '"target":"Add","arguments":[1],"arguments":[1,2]',
        '"target":"Add","arguments":[1,2],"arguments":[1]',
        '"arguments":[1],"target":"Add","arguments":[1,2]',
        '"target":"Nothing","arguments":[1],"target":"Add","arguments":[1,2]',
    ],
)
@pytest.mark.parametrize("kind", [1, 4])
def test_arguments_are_bound_each_time_that_they_come(members: str, kind: int) -> None:
    message = decode_declared(f'{{"type":{kind},"invocationId":"7",{members}}}')
    assert isinstance(message, InvocationBindingFailure)
    assert (message.invocation_id, message.target) == ("7", "Add")
    assert str(message.error).startswith("Invocation provides 1 argument(s) but target expects ")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ('"arguments":[1],"arguments":[1,2],"target":"Add","type":1', Invocation(target="Add", arguments=(1, 2))),
        ('"target":"Add","arguments":[3,4],"arguments":[1,2],"type":1', Invocation(target="Add", arguments=(1, 2))),
        ('"target":"Add","arguments":[3],"arguments":[1,2],"type":6', Ping()),
        ('"arguments":[3],"arguments":[1,2],"type":6', Ping()),
        ('"target":"A","arguments":["\\"arguments\\""],"type":6', Ping()),
        ('"type":10,"arguments":[3],"arguments":[1,2]', None),
        ('"type":8,"sequenceId":3,"sequenceId":4', Ack(sequence_id=4)),
    ],
)
def test_of_repeated_members_the_last_wins(members: str, message: HubMessage | None) -> None:
    assert decode_declared(f"{{{members}}}") == message


def test_arguments_are_bound_for_the_target_known_when_they_come() -> None:
    message = decode_declared('{"type":1,"target":"Nothing","arguments":[1,2],"target":"Add"}')
    assert isinstance(message, InvocationBindingFailure)
    assert message.target == "Add"
    assert str(message.error) == "Invocation provides 2 argument(s) but target expects 0."


def test_payloads_may_name_arguments_themselves() -> None:
    nested = {"arguments": [{"arguments": None}]}
    message = decode('{"type":1,"target":"A","arguments":[{"arguments":[{"arguments":null}]}]}')
    assert message == Invocation(target="A", arguments=(nested,))
    message = decode('{"type":1,"target":"A","arguments":[{"target":"B"}]}')
    assert message == Invocation(target="A", arguments=({"target": "B"},))
    message = decode('{"type":1,"note":{"arguments":null},"target":"A","arguments":[1]}')
    assert message == Invocation(target="A", arguments=(1,))


@pytest.mark.parametrize(("depth", "accepted"), [(62, True), (63, False), (100_000, False)])
def test_values_may_be_nested_64_levels_deep(depth: int, accepted: bool) -> None:
    text = f'{{"type":1,"target":"A","arguments":[{"[" * depth}{"]" * depth}]}}'
    if accepted:
        assert isinstance(decode(text), Invocation)
    else:
        assert str(refusal(text)) == "Error reading JSON."


def test_brackets_in_strings_are_no_nesting() -> None:
    message = decode(f'{{"type":2,"invocationId":"1","item":"{"[" * 70}\\"{"{" * 70}"}}')
    assert message == StreamItem(invocation_id="1", item="[" * 70 + '"' + "{" * 70)


# --- binding ---------------------------------------------------------------------------------------------------------


def test_arguments_get_their_declared_types() -> None:
    message = decode_declared('{"type":1,"target":"Move","arguments":[{"x":1,"y":2,"z":0},"left"]}')
    assert message == Invocation(target="Move", arguments=(Point(1, 2), "left"))
    assert decode_declared('{"type":1,"target":"Nothing","arguments":[]}') == Invocation(target="Nothing", arguments=())


WRONG_TYPE = (
    "Error binding arguments. Make sure that the types of the provided values match the types of the hub method "
    "being invoked."
)


@pytest.mark.parametrize(
    ("target", "arguments", "reason"),
    [
        ("Add", "[1]", "Invocation provides 1 argument(s) but target expects 2."),
        ("Add", "[1,2,3]", "Invocation provides 3 argument(s) but target expects 2."),
        ("Add", "[]", "Invocation provides 0 argument(s) but target expects 2."),
        ("Nothing", "[1]", "Invocation provides 1 argument(s) but target expects 0."),
        ("Add", '["1",2]', WRONG_TYPE),
        ("Add", "[1.5,2]", WRONG_TYPE),
        ("Add", "[null,2]", WRONG_TYPE),
        ("Add", '["wrong type before wrong count"]', WRONG_TYPE),
        ("Add", '[1,"x",3]', WRONG_TYPE),
        ("Move", '[{"x":1},"left"]', WRONG_TYPE),
        ("Log", '["a",1]', WRONG_TYPE),
    ],
)
@pytest.mark.parametrize("kind", [1, 4])
def test_arguments_that_do_not_fit_are_a_failure_of_this_call_only(
    kind: int, target: str, arguments: str, reason: str
) -> None:
    message = decode_declared(f'{{"type":{kind},"invocationId":"7","target":"{target}","arguments":{arguments}}}')
    assert isinstance(message, InvocationBindingFailure)
    assert (message.invocation_id, message.target, str(message.error)) == ("7", target, reason)
    assert isinstance(message.error, RemoteProtocolError)


def test_unknown_targets_are_a_failure_of_this_call_only() -> None:
    message = decode_declared('{"type":1,"target":"Nowhere","arguments":[{"target":"Add"}]}')
    assert isinstance(message, InvocationBindingFailure)
    assert (message.invocation_id, message.target) == (None, "Nowhere")
    assert isinstance(message.error, HubError)


def test_binding_fails_before_a_missing_id_does() -> None:
    assert isinstance(decode_declared('{"type":4,"target":"Add","arguments":[]}'), InvocationBindingFailure)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"type":2,"invocationId":"s","item":"x"}', "JsonException"),
        ('{"type":2,"item":1.5,"invocationId":"s"}', "JsonException"),
        ('{"type":2,"invocationId":"other","item":1}', "HubException"),
        ('{"type":2,"item":1,"invocationId":"other"}', "HubException"),
    ],
)
def test_items_that_do_not_fit_are_a_failure_of_their_stream_only(text: str, kind: str) -> None:
    message = decode_declared(text)
    assert isinstance(message, StreamBindingFailure)
    assert isinstance(message.error, RemoteProtocolError | HubError)
    assert message.error.kind == kind


def test_items_get_their_declared_type() -> None:
    assert decode_declared('{"type":2,"invocationId":"s","item":5}') == StreamItem(invocation_id="s", item=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":3,"invocationId":"1","result":5}', Completion(invocation_id="1", result=5)),
        ('{"type":3,"result":null,"invocationId":"2"}', Completion(invocation_id="2", result=None)),
        ('{"type":3,"invocationId":"late","result":{"any":1}}', Completion(invocation_id="late", result=None)),
    ],
)
def test_results_get_their_declared_type(text: str, message: Completion) -> None:
    assert decode_declared(text) == message


@pytest.mark.parametrize(("invocation_id", "name"), [("1", "Int64"), ("2", "int | None")])
def test_results_that_do_not_fit_are_an_error_of_the_call(invocation_id: str, name: str) -> None:
    message = decode_declared(f'{{"type":3,"invocationId":"{invocation_id}","result":"five"}}')
    assert isinstance(message, Completion)
    assert message.result is UNSET
    assert message.error is not None
    assert message.error.startswith(f"Error trying to deserialize result to {name}. ")


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Invocation(target="Add", arguments=[1, 2]), '{"type":1,"target":"Add","arguments":[1,2]}'),
        (Invocation(invocation_id="", target="A", arguments=()), '{"type":1,"target":"A","arguments":[]}'),
        (
            Invocation(invocation_id="1", target="A", arguments=[None], stream_ids=["2"], headers={"h": "v"}),
            '{"type":1,"headers":{"h":"v"},"invocationId":"1","target":"A","arguments":[null],"streamIds":["2"]}',
        ),
        (
            Invocation(target="A", arguments=[], stream_ids=[]),
            '{"type":1,"target":"A","arguments":[],"streamIds":[]}',
        ),
        (
            StreamInvocation(invocation_id="1", target="A", arguments=["x"]),
            '{"type":4,"invocationId":"1","target":"A","arguments":["x"]}',
        ),
        (StreamItem(invocation_id="1", item=None), '{"type":2,"invocationId":"1","item":null}'),
        (StreamItem(invocation_id="1", item=Point(1, 2)), '{"type":2,"invocationId":"1","item":{"x":1,"y":2}}'),
        (Completion(invocation_id="1"), '{"type":3,"invocationId":"1"}'),
        (Completion(invocation_id="1", result=None), '{"type":3,"invocationId":"1","result":null}'),
        (Completion(invocation_id="1", result=b"\x00\xff"), '{"type":3,"invocationId":"1","result":"AP8="}'),
        (Completion(invocation_id="1", error="no"), '{"type":3,"invocationId":"1","error":"no"}'),
        (
            Completion(invocation_id="1", error="", headers={"h": ""}),
            '{"type":3,"headers":{"h":""},"invocationId":"1"}',
        ),
        (CancelInvocation(invocation_id="1"), '{"type":5,"invocationId":"1"}'),
        (Ping(), '{"type":6}'),
        (Close(), '{"type":7}'),
        (Close(error="", allow_reconnect=True), '{"type":7,"error":"","allowReconnect":true}'),
        (Ack(sequence_id=5), '{"type":8,"sequenceId":5}'),
        (SequenceMessage(sequence_id=0), '{"type":9,"sequenceId":0}'),
    ],
)
def test_members_are_written_in_the_reference_s_order(message: HubMessage, text: str) -> None:
    assert written(message) == text


@pytest.mark.parametrize("value", [object(), {1, object()}, 1j, "\ud800", {("a",): 1}])
def test_what_is_no_json_is_a_local_error(value: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"^StreamItem cannot be written as JSON: "):
        CODEC.encode(StreamItem(invocation_id="1", item=value))


def test_values_that_contain_themselves_are_a_local_error() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(LocalProtocolError):
        CODEC.encode(StreamItem(invocation_id="1", item=loop))


# Larger floats are written without a point too, and so read as the integers nearest to their shortest text.
floats = st.floats(-(2.0**53), 2.0**53)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | floats | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
    max_leaves=12,
)
ids = st.text(min_size=1, max_size=4)
headers = st.none() | st.dictionaries(st.text(max_size=3), st.text(max_size=3), min_size=1, max_size=2)
arguments = st.lists(json_values, max_size=3).map(tuple)
stream_ids = st.none() | st.lists(ids, max_size=2).map(tuple)
messages: st.SearchStrategy[HubMessage] = st.one_of(
    st.builds(
        Invocation,
        headers=headers,
        invocation_id=st.none() | ids,
        target=ids,
        arguments=arguments,
        stream_ids=stream_ids,
    ),
    st.builds(StreamInvocation, invocation_id=ids, target=ids, arguments=arguments, stream_ids=stream_ids),
    st.builds(StreamItem, headers=headers, invocation_id=ids, item=json_values),
    st.builds(Completion, headers=headers, invocation_id=ids, result=st.just(UNSET) | json_values),
    st.builds(Completion, invocation_id=ids, error=st.text(min_size=1)),
    st.builds(CancelInvocation, headers=headers, invocation_id=ids),
    st.builds(Close, error=st.none() | st.text(), allow_reconnect=st.booleans()),
    st.builds(Ack, sequence_id=st.integers(-(2**63), 2**63 - 1)),
)


@settings(deadline=None)
@given(messages)
def test_what_is_written_is_read_back(message: HubMessage) -> None:
    data = CODEC.encode(message)
    assert data.count(b"\x1e") == 1
    assert CODEC.decode(data[:-1], AnyBinder(), 64) == message


@settings(deadline=None)
@given(messages)
def test_a_record_is_the_same_message_when_it_is_read_in_order(message: HubMessage) -> None:
    data = CODEC.encode(message)[:-1]
    assert CODEC.decode(data + b" junk", AnyBinder(), 64) == message


@settings(deadline=None)
@given(json_values)
def test_what_is_written_is_standard_json(value: Any) -> None:
    assert json.loads(written(StreamItem(invocation_id="1", item=value)))["item"] == value


def test_an_item_that_does_not_fit_fails_its_stream_whatever_the_message_is() -> None:
    failure = decode_declared('{"type":3,"invocationId":"s","item":"x"}')
    assert isinstance(failure, StreamBindingFailure)
    assert decode_declared('{"type":3,"invocationId":"s","item":5}') == Completion(invocation_id="s")
