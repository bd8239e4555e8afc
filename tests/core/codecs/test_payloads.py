"""Payloads of the types that Python programs declare, in both encodings."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar
from uuid import UUID

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from hubproto_core import Char, Single
from hubproto_core._codecs._json_payloads import JsonPayloads
from hubproto_core._codecs._msgpack_payloads import MessagePackPayloads
from hubproto_core._codecs._payloads import PayloadFormat, decimal_text, member_names, offset_minutes, time_span

Hook = Callable[..., Any]
T = TypeVar("T")
SECOND = timedelta(seconds=1)


class Encoding:
    """One encoding with plain values in and out: what travels, without its bytes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_json = name == "json"
        self.second: Any = "00:00:01" if self.is_json else 10_000_000
        self._module: Any = msgspec.json if self.is_json else msgspec.msgpack

    def format(self, rename: Any, enc_hook: Hook | None = None, dec_hook: Hook | None = None) -> PayloadFormat:
        return (JsonPayloads if self.is_json else MessagePackPayloads).of(rename, enc_hook, dec_hook)

    def written(self, value: Any, rename: Any = "camel", enc_hook: Hook | None = None) -> Any:
        payloads = self.format(rename, enc_hook)
        return self._module.decode(self._module.encode(payloads.write(value), enc_hook=payloads.write_custom))

    def read(self, value: Any, type_: Any, rename: Any = "camel", dec_hook: Hook | None = None) -> Any:
        return self.format(rename, dec_hook=dec_hook).decoder(type_)(Raw(self._module.encode(value)))


@pytest.fixture(params=["json", "messagepack"])
def encoding(request: pytest.FixtureRequest) -> Encoding:
    return Encoding(request.param)


JSON = Encoding("json")
MESSAGEPACK = Encoding("messagepack")


# --- classes ---------------------------------------------------------------------------------------------------------


@dataclass
class Track:
    track_name: str
    play_time: timedelta = SECOND
    other_names: list[str] = field(default_factory=list)


class TrackStruct(Struct):
    track_name: str
    play_time: timedelta = SECOND
    other_names: list[str] = []


@attrs.define
class TrackAttrs:
    track_name: str
    play_time: timedelta = SECOND
    other_names: list[str] = attrs.field(factory=list)


@pytest.mark.parametrize("kind", [Track, TrackStruct, TrackAttrs])
class TestClassesWithMembers:
    def test_members_are_named_by_the_policy(self, encoding: Encoding, kind: Any) -> None:
        track = kind("Bolero", SECOND, ["a"])
        for rename, names in (
            ("camel", ["trackName", "playTime", "otherNames"]),
            ("pascal", ["TrackName", "PlayTime", "OtherNames"]),
            (str.upper, ["TRACK_NAME", "PLAY_TIME", "OTHER_NAMES"]),
            (None, ["track_name", "play_time", "other_names"]),
        ):
            wire = encoding.written(track, rename)
            assert list(wire.items()) == list(zip(names, ["Bolero", encoding.second, ["a"]], strict=True))
            assert encoding.read(wire, kind, rename) == track

    def test_missing_members_take_their_defaults(self, encoding: Encoding, kind: Any) -> None:
        assert encoding.read({"trackName": "Bolero"}, kind) == kind("Bolero")
        with pytest.raises(msgspec.ValidationError, match="track_name"):
            encoding.read({"playTime": encoding.second}, kind)

    def test_unknown_members_are_ignored(self, encoding: Encoding, kind: Any) -> None:
        assert encoding.read({"trackName": "Bolero", "label": {"trackName": 5}}, kind) == kind("Bolero")

    def test_null_is_no_object(self, encoding: Encoding, kind: Any) -> None:
        with pytest.raises(msgspec.ValidationError):
            encoding.read(None, kind)
        assert encoding.read(None, kind | None) is None
        assert encoding.read({"trackName": "Bolero"}, kind | None) == kind("Bolero")

    def test_only_json_is_read_in_any_case(self, encoding: Encoding, kind: Any) -> None:
        wire = {"TRACKNAME": "Bolero", "PlayTime": encoding.second}
        if encoding.is_json:
            assert encoding.read(wire, kind) == kind("Bolero")
        else:
            with pytest.raises(msgspec.ValidationError):
                encoding.read(wire, kind)

    def test_the_declared_name_is_no_name_on_the_wire(self, encoding: Encoding, kind: Any) -> None:
        wire = {"trackName": "Bolero", "play_time": "never", "other_names": 5}
        assert encoding.read(wire, kind) == kind("Bolero")
        with pytest.raises(msgspec.ValidationError):
            encoding.read({"track_name": "Bolero"}, kind)

    def test_the_last_of_members_that_are_the_same_counts(self, kind: Any) -> None:
        assert JSON.read({"trackName": "a", "TrackName": "b"}, kind) == kind("b")

    def test_they_may_stand_anywhere(self, encoding: Encoding, kind: Any) -> None:
        track = kind("Bolero", SECOND)
        wire = encoding.written(track)
        for type_, value, on_wire in (
            (list[kind], [track, track], [wire, wire]),
            (tuple[kind, ...], (track,), [wire]),
            (tuple[str, kind], ("trackName", track), ["trackName", wire]),
            (tuple[kind, str], (track, "trackName:"), [wire, "trackName:"]),
            (dict[str, kind], {"TrackName": track}, {"TrackName": wire}),
            (Mapping[str, list[kind]], {"TrackName": [track]}, {"TrackName": [wire]}),
            (Sequence[kind | None], [track, None], [wire, None]),
            (Annotated[kind, Meta(title="a track")], track, wire),
            (tuple[kind, Any], (track, {"Track_Name": 1}), [wire, {"Track_Name": 1}]),
            (tuple[Any, int, kind], ([1], 2, track), [[1], 2, wire]),
        ):
            assert encoding.written(value) == on_wire
            assert encoding.read(on_wire, type_) == value


class Named(Struct, rename="kebab"):
    long_name: int = 0
    other: int = msgspec.field(name="$other", default=0)


def test_names_that_a_class_declares_itself_are_never_changed(encoding: Encoding) -> None:
    for rename in ("camel", "pascal", None):
        assert encoding.written(Named(1, 2), rename) == {"long-name": 1, "$other": 2}
        assert encoding.read({"long-name": 1, "$other": 2}, Named, rename) == Named(1, 2)
    assert encoding.read({"longName": 1, "long_name": 1, "other": 2}, Named) == Named()


class Options(TypedDict):
    Depth: timedelta
    max_count: NotRequired[int]


def test_names_of_dictionaries_are_never_changed(encoding: Encoding) -> None:
    options: Options = {"Depth": SECOND, "max_count": 1}
    wire = {"Depth": encoding.second, "max_count": 1}
    assert encoding.written(options) == wire
    assert encoding.read(wire, Options) == options
    assert encoding.written({"max_count": 1, "Depth": 2}) == {"max_count": 1, "Depth": 2}
    assert encoding.read({"max_count": 1, "Depth": 2}, dict[str, int]) == {"max_count": 1, "Depth": 2}
    with pytest.raises(msgspec.ValidationError):
        encoding.read({"max_count": 1}, Options)


class Pair(NamedTuple):
    user_name: str
    time: timedelta = SECOND


class Row(Struct, array_like=True, omit_defaults=True):
    user_name: str = ""
    time: timedelta = SECOND
    more: list[Row] = []


def test_named_tuples_and_records_are_arrays(encoding: Encoding) -> None:
    assert encoding.written(Pair("a")) == ["a", encoding.second]
    assert encoding.read(["a", encoding.second], Pair) == Pair("a")
    assert encoding.read(["a"], Pair) == Pair("a")
    row = Row("", SECOND, [Row("b")])
    wire = ["", encoding.second, [["b", encoding.second, []]]]
    assert encoding.written(row) == wire
    assert encoding.read(wire, Row) == row
    assert encoding.read([], Row) == Row()
    with pytest.raises(msgspec.ValidationError):
        encoding.read({"userName": "a"}, Row)


class Sparse(Struct, omit_defaults=True):
    label: str = ""
    many: list[int] = []
    maybe: int | UnsetType = UNSET
    time: timedelta = SECOND


def test_members_with_their_defaults_may_be_left_out(encoding: Encoding) -> None:
    assert encoding.written(Sparse()) == {}
    assert encoding.written(Sparse("a", [1], 5, 2 * SECOND)) == {
        "label": "a",
        "many": [1],
        "maybe": 5,
        "time": "00:00:02" if encoding.is_json else 20_000_000,
    }
    assert encoding.read({}, Sparse) == Sparse()


class Maybe(Struct):
    value: int | UnsetType | None = UNSET


def test_members_that_are_unset_are_left_out(encoding: Encoding) -> None:
    assert encoding.written([Maybe(), Maybe(None), Maybe(1)]) == [{}, {"value": None}, {"value": 1}]
    assert encoding.read([{}, {"value": None}, {"value": 1}], list[Maybe]) == [Maybe(), Maybe(None), Maybe(1)]


class Strict(Struct, forbid_unknown_fields=True):
    user_name: str
    time: timedelta = SECOND


def test_a_class_may_forbid_unknown_members(encoding: Encoding) -> None:
    assert encoding.read({"userName": "a", "time": encoding.second}, Strict) == Strict("a")
    with pytest.raises(ValueError, match="unknown field `other`"):
        encoding.read({"userName": "a", "other": 1}, Strict)


class Lower(Struct):
    username: str = ""


class Mixed(Struct):
    userName: str = ""  # noqa: N815


class Snake(Struct):
    user_name: str = ""


@pytest.mark.parametrize("types", [(Snake, Mixed), (Mixed, Snake), (Lower, Mixed), (Mixed, Lower), (Snake, Lower)])
def test_classes_whose_names_differ_in_case_only_do_not_confuse_each_other(types: tuple[Any, Any]) -> None:
    first: Any
    second: Any
    first, second = types
    for name in ("userName", "username", "UserName"):
        assert JSON.read([{name: "a"}, {name: "b"}], tuple[first, second]) == (first("a"), second("b"))


def test_names_may_be_swapped() -> None:
    class Swapped(Struct):
        a: int = 0
        b: int = 0

    def swap(name: str) -> str:
        return {"a": "b", "b": "a"}[name]

    assert MESSAGEPACK.written(Swapped(1, 2), swap) == {"b": 1, "a": 2}
    assert MESSAGEPACK.read({"b": 1, "a": 2}, Swapped, swap) == Swapped(1, 2)


@pytest.mark.parametrize(
    "text",
    [
        'trackname":',
        '"TRACKNAME":',
        '\\"TRACKNAME":',
        ": x",
        "TRACKNAME:",
        "\\",
        '\\\\"',
        '{"TRACKNAME":1}',
    ],
)
def test_text_that_looks_like_a_member_is_left_alone(encoding: Encoding, text: str) -> None:
    wire = [text, {"trackName": text, text: text}, text]
    assert encoding.read(wire, tuple[str, Track, str]) == (text, Track(text), text)
    wire = [text, {"trackName": text, "PLAYTIME" if encoding.is_json else "playTime": encoding.second}]
    assert encoding.read(wire, tuple[str, Track]) == (text, Track(text))


def test_names_may_be_written_with_escapes_and_spaces() -> None:
    decoder = JsonPayloads.of("camel", None, None).decoder(Track)
    assert decoder(b'{ "track\\u004eame" \n:\t"a" , "x\\"y" : 1}') == Track("a")
    assert decoder(b'{"TRACK\\u004eAME":"a"}') == Track("a")


class Loud(Struct):
    loud: int


def test_a_text_of_quotes_only_is_looked_through_once() -> None:
    decoder = JsonPayloads.of("camel", None, None).decoder(tuple[str, Loud])
    text = '\\"' * 100_000
    assert decoder(f'["{text}",{{"LOUD":1}}]'.encode()) == ('"' * 100_000, Loud(1))


# --- generic, recursive and alternative types -------------------------------------------------------------------------


@dataclass
class Box(Generic[T]):
    boxed_value: T


class StructBox(Struct, Generic[T]):
    boxed_value: T


@pytest.mark.parametrize("box", [Box, StructBox])
def test_generic_classes_keep_their_parameters_apart(encoding: Encoding, box: Any) -> None:
    wire = [{"boxedValue": 10}, {"boxedValue": encoding.second}, {"boxedValue": {"boxedValue": encoding.second}}]
    value = (box(10), box(SECOND), box(box(SECOND)))
    assert encoding.read(wire, tuple[box[int], box[timedelta], box[box[timedelta]]]) == value
    assert encoding.written(value) == wire


@dataclass
class Tree:
    own_time: timedelta
    sub_trees: list[Tree] = field(default_factory=list)
    by_name: dict[str, Tree] = field(default_factory=dict)
    next_one: Tree | None = None


def test_types_may_contain_themselves(encoding: Encoding) -> None:
    leaf = Tree(SECOND)
    tree = Tree(SECOND, [leaf, Tree(SECOND, [leaf])], {"OwnTime": leaf}, leaf)
    wire = encoding.written(tree)
    assert wire["byName"]["OwnTime"]["ownTime"] == encoding.second
    assert encoding.read(wire, Tree) == tree


class Cat(Struct, tag="cat", tag_field="kind"):
    lives_left: timedelta


class Dog(Struct, tag="dog", tag_field="kind"):
    lives_left: int
    best_friend: Cat | Dog | None = None


def test_classes_are_told_apart_by_their_tags(encoding: Encoding) -> None:
    pets = [Cat(SECOND), Dog(10), Dog(10, Cat(SECOND))]
    wire = [
        {"kind": "cat", "livesLeft": encoding.second},
        {"kind": "dog", "livesLeft": 10, "bestFriend": None},
        {"kind": "dog", "livesLeft": 10, "bestFriend": {"kind": "cat", "livesLeft": encoding.second}},
    ]
    assert encoding.written(pets) == wire
    for union in (Cat | Dog, Dog | Cat, Dog | Cat | None, Dog | Cat | list[int]):
        assert encoding.read(wire, list[union]) == pets  # type: ignore[valid-type]
    assert encoding.read(wire[0], Cat) == pets[0]
    tags: list[Any] = ["bird", 5, [], {}, None]
    for tag in tags:
        with pytest.raises(msgspec.ValidationError):
            encoding.read({"livesLeft": 10, "kind": tag}, Cat | Dog)
    with pytest.raises(msgspec.ValidationError):
        encoding.read({"livesLeft": 10}, Cat | Dog)


def test_tags_are_members_too() -> None:
    assert JSON.read({"KIND": "cat", "LIVESLEFT": "00:00:01"}, Cat | Dog) == Cat(SECOND)
    with pytest.raises(msgspec.ValidationError):
        MESSAGEPACK.read({"Kind": "cat", "livesLeft": 10}, Cat | Dog)


class Move(Struct, tag=1, array_like=True):
    duration: timedelta


class Wait(Struct, tag=2, array_like=True):
    count: int
    steps: list[int] = []


def test_arrays_are_told_apart_by_their_tags(encoding: Encoding) -> None:
    steps = [Move(SECOND), Wait(10)]
    wire = [[1, encoding.second], [2, 10, []]]
    assert encoding.written(steps) == wire
    assert encoding.read(wire, list[Move | Wait]) == steps
    assert encoding.read(wire[0], Move) == steps[0]
    for value in ([], [3, 10], [[1], 10]):
        with pytest.raises(msgspec.ValidationError):
            encoding.read(value, Move | Wait)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (int | str, 5),
        (int | str, "five"),
        (int | timedelta, 5),
        (str | int | None, None),
        (bool | timedelta, True),
        (float | None, 1.5),
        (list[int] | dict[str, int], [1]),
        (list[int] | dict[str, int], {"a": 1}),
        (Literal["a", "b"] | int, "a"),
        (Literal[1, None], None),
        (set[int], {1, 2}),
        (frozenset[str], frozenset("ab")),
        (tuple[()], ()),
        (tuple[int, ...] | None, (1, 2)),
        (Annotated[int, Meta(ge=0)], 5),
    ],
)
def test_types_that_need_no_help(encoding: Encoding, type_: Any, value: Any) -> None:
    wire = encoding.written(value)
    assert encoding.read(wire, type_) == value
    assert encoding.read([wire, encoding.second], tuple[type_, timedelta]) == (value, SECOND)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (timedelta | float, SECOND),
        (timedelta | float, 1.5),
        (timedelta | None, SECOND),
        (timedelta | None, None),
        (list[timedelta] | timedelta, [SECOND]),
        (list[timedelta] | timedelta, SECOND),
        (dict[str, timedelta] | timedelta, {"a": SECOND}),
        (dict[str, timedelta] | tuple[timedelta, int], (SECOND, 1)),
        (Track | list[Track], Track("a")),
        (Track | list[Track], [Track("a")]),
        (set[timedelta], {SECOND}),
        (tuple[timedelta, int], (SECOND, 1)),
        (dict[UUID, timedelta], {UUID(int=5): SECOND}),
        (dict[int, timedelta], {5: SECOND}),
        (dict[date, int], {date(2024, 2, 29): 1}),
        (Annotated[timedelta, Meta(description="how long")], SECOND),
    ],
)
def test_dotnet_s_types_may_stand_anywhere(encoding: Encoding, type_: Any, value: Any) -> None:
    assert encoding.read(encoding.format("camel").write(value), type_) == value


@pytest.mark.parametrize("type_", [int | timedelta, int | timedelta | None])
def test_a_time_span_beside_integers_is_a_number_in_messagepack(type_: Any) -> None:
    assert JSON.read("00:00:01", type_) == SECOND
    assert MESSAGEPACK.read(10_000_000, type_) == 10_000_000


def test_constraints_are_checked_after_all(encoding: Encoding) -> None:
    positive = Annotated[int, Meta(gt=0)]
    for value in (0, "1", 1.5):
        with pytest.raises(msgspec.ValidationError):
            encoding.read([value, encoding.second], tuple[positive, timedelta])
    with pytest.raises(msgspec.ValidationError):
        encoding.read(["c", encoding.second], tuple[Literal["a", "b"], timedelta])


@pytest.mark.parametrize("value", [None, 5, "a", [], {}, [{"trackName": 5}], [{}], [{"trackName": "a"}, 5], [[]]])
def test_what_does_not_fit_is_refused(encoding: Encoding, value: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        encoding.read(value, tuple[Track])


# --- types that Python has not ---------------------------------------------------------------------------------------


def test_characters_and_floats_of_32_bits(encoding: Encoding) -> None:
    wire = encoding.written([Char("\u0436"), Single(0.1)])
    assert wire == ["\u0436" if encoding.is_json else 0x436, 0.1 if encoding.is_json else Single(0.1)]
    read = encoding.read(wire, tuple[Char, Single])
    assert read == ("\u0436", Single(0.1))
    assert [type(value) for value in read] == [Char, Single]
    for prepared in ([0.5, encoding.second], [2, encoding.second]):
        value, _ = encoding.read(prepared, tuple[Single, timedelta])
        assert (value, type(value)) == (prepared[0], Single)
    others: list[Any] = ["0.1", True, None, []]
    for wrong in others:
        with pytest.raises(ValueError, match="Expected a number"):
            encoding.read(wrong, Single)
    with pytest.raises(OverflowError):
        encoding.read(1e300, Single)


# --- enumerations ----------------------------------------------------------------------------------------------------


class Color(Enum):
    Red = 0
    DARK_BLUE = 6
    Navy = 6  # noqa: PIE796 - another name for it


class Level(IntEnum):
    Low = 1
    High = 2


class Mode(StrEnum):
    Fast = "fast"
    Slow = "slow"


class Perm(Flag):
    Read = 1
    Write = 2
    Both = 3


class Bits(IntFlag):
    One = 1
    Two = 2


@pytest.mark.parametrize(
    ("value", "in_json", "in_messagepack"),
    [
        (Color.Red, 0, "Red"),
        (Color.DARK_BLUE, 6, "DARK_BLUE"),
        (Level.High, 2, "High"),
        (Mode.Fast, "fast", "fast"),
        (Perm.Read, 1, "Read"),
        (Perm.Both, 3, "Both"),
        (Perm(0), 0, "0"),
        (Bits.One | Bits.Two, 3, "One, Two"),
        (Bits(9), 9, "9"),
    ],
)
def test_enumerations_are_numbers_in_json_and_names_in_messagepack(
    value: Enum, in_json: Any, in_messagepack: Any
) -> None:
    assert JSON.written([value]) == [in_json]
    assert MESSAGEPACK.written([value]) == [in_messagepack]
    for encoding in (JSON, MESSAGEPACK):
        for wire in {in_json, in_messagepack}:
            assert encoding.read(wire, type(value)) == value
            type_: Any = type(value)
            assert encoding.read([wire, encoding.second], tuple[type_, timedelta]) == (value, SECOND)


@pytest.mark.parametrize(
    ("name", "type_", "value"),
    [
        ("darkblue", Color, Color.DARK_BLUE),
        ("DarkBlue", Color, Color.DARK_BLUE),
        ("Navy", Color, Color.Navy),
        ("6", Color, Color.Navy),
        ("Read,Write", Perm, Perm.Both),
        ("Read, Both", Perm, Perm.Both),
        ("Two , One", Bits, Bits(3)),
        ("Red", Color | None, Color.Red),
        ("Red", Color | str, "Red"),
        ("High", Color | str, "High"),
    ],
)
def test_names_of_enumerations_are_read_as_dotnet_may_write_them(
    encoding: Encoding, name: str, type_: Any, value: Any
) -> None:
    assert encoding.read(name, type_) == value


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        ("Green", Color),
        ("Red, Navy", Color),
        ("", Color),
        ("7", Color),
        ("9" * 5000, Color),
        (8, Color),
        ("Read, Green", Perm),
        ("Fast", Mode),
        ("1", Mode),
        (None, Color),
        ([], Color),
        (True, Color),
    ],
)
def test_other_names_and_numbers_are_no_members(encoding: Encoding, value: Any, type_: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are msgspec's or Python's
        encoding.read(value, type_)


def test_enumerations_as_keys_are_names_in_both_encodings(encoding: Encoding) -> None:
    assert encoding.written({Color.Red: 1, Level.Low: 2, Mode.Slow: 3}) == {"Red": 1, "Low": 2, "slow": 3}
    assert encoding.read({"Red": 1, "darkBlue": 2}, dict[Color, int]) == {Color.Red: 1, Color.DARK_BLUE: 2}
    assert encoding.read({"6": 1}, dict[Color, int]) == {Color.DARK_BLUE: 1}
    assert encoding.read({"slow": 1}, dict[Mode, int]) == {Mode.Slow: 1}


# --- values that derive from built-in ones ---------------------------------------------------------------------------


class Loudly(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "LOUD"


class Count(int):
    def __int__(self) -> int:
        return -1


class Ratio(float):
    pass


class Blob(bytes):
    pass


LegacyPair = namedtuple("LegacyPair", "a b")


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (Loudly("a"), "a"),
        (Count(5), 5),
        (Ratio(1.5), 1.5),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (defaultdict(list, {"a": [SECOND]}), {"a": [...]}),
        (deque([1, SECOND]), [1, ...]),
        ({SECOND}, [...]),
        (frozenset({1}), [1]),
        ((1, (2,)), [1, [2]]),
        (LegacyPair(1, SECOND), [1, ...]),
        ({"a": {1: SECOND}}, {"a": {1: ...}}),
    ],
)
def test_what_derives_from_a_built_in_type_is_written_as_that(encoding: Encoding, value: Any, wire: Any) -> None:
    def on_wire(part: Any) -> Any:
        if part is ...:
            return encoding.second
        if isinstance(part, list):
            return [on_wire(element) for element in part]
        if isinstance(part, dict):
            return {str(key) if encoding.is_json else key: on_wire(member) for key, member in part.items()}
        return part

    for _ in range(2):  # the second time, the way to write it is known
        assert encoding.written(value) == on_wire(wire)


def test_a_type_is_written_the_same_whatever_was_written_before(encoding: Encoding) -> None:
    class Mixin:
        pass

    class Both(Mixin, dict[str, timedelta]):
        pass

    with pytest.raises(TypeError):
        encoding.written([Mixin()])
    assert encoding.written([Both(a=SECOND)]) == [{"a": encoding.second}]


def test_bytes_may_be_of_any_kind(encoding: Encoding) -> None:
    for value in (b"\0\xff", Blob(b"\0\xff"), bytearray(b"\0\xff"), memoryview(b"\0\xff")):
        assert encoding.written([value]) == ["AP8=" if encoding.is_json else b"\0\xff"]


# --- types of one's own ----------------------------------------------------------------------------------------------


class Money:
    def __init__(self, amount: Decimal) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.amount == self.amount

    __hash__ = None  # type: ignore[assignment]


class Wrapper(Generic[T]):
    def __init__(self, inner: Any) -> None:
        self.inner = inner


def write_money(value: Any) -> Any:
    if isinstance(value, Money):
        return {"amount": value.amount, "since": SECOND}
    raise NotImplementedError(type(value).__name__)


def read_money(type_: Any, value: Any) -> Any:
    if type_ is Money:
        return Money(Decimal(str(value["amount"])))
    if type_ is Wrapper[int]:
        return Wrapper(value)
    raise TypeError(type_)


def test_hooks_write_and_read_types_of_one_s_own(encoding: Encoding) -> None:
    wire = encoding.written([Money(Decimal("1.50"))], enc_hook=write_money)
    assert wire == [{"amount": 1.5 if encoding.is_json else "1.50", "since": encoding.second}]
    assert encoding.read([wire[0], encoding.second], tuple[Money, timedelta], dec_hook=read_money) == (
        Money(Decimal("1.5")),
        SECOND,
    )
    assert encoding.read(wire, list[Money | None], dec_hook=read_money) == [Money(Decimal("1.5"))]
    assert encoding.read(5, Wrapper[int], dec_hook=read_money).inner == 5


def test_hooks_are_not_asked_about_known_types(encoding: Encoding) -> None:
    known = [UUID(int=0), Decimal(1), date(2024, 2, 29), bytearray(b""), memoryview(b""), None, Color.Red, Track("a")]
    assert encoding.written(known, enc_hook=write_money) == encoding.written(known)
    with pytest.raises(NotImplementedError, match="complex"):
        encoding.written([1j], enc_hook=write_money)


def test_without_hooks_there_are_no_types_of_one_s_own(encoding: Encoding) -> None:
    with pytest.raises(TypeError):
        encoding.written([Money(Decimal(1))])
    with pytest.raises(ValueError, match="a value for Money needs the codec's dec_hook"):
        encoding.read({}, Money)


def test_what_hooks_raise_comes_out(encoding: Encoding) -> None:
    with pytest.raises(KeyError):
        encoding.read({}, Money, dec_hook=read_money)


def test_abstract_types_take_what_is_one(encoding: Encoding) -> None:
    assert encoding.read([1, "a", None], list[object]) == [1, "a", None]
    assert encoding.read(5, Hashable) == 5
    with pytest.raises(ValueError, match="dec_hook"):
        encoding.read([], Hashable)


def test_a_policy_nobody_knows_is_refused(encoding: Encoding) -> None:
    with pytest.raises(ValueError, match="rename must be"):
        encoding.format("snake")


# --- what both encodings share ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("79.9900", "79.9900"),
        ("-0.00", "-0.00"),
        ("1E+5", "100000"),
        ("1E-7", "0.0000001"),
        ("123456789012345678901234567890.5", "123456789012345678901234567890.5"),
        ("1E+999999999", "1E+999999999"),
        ("1E-999999999", "1E-999999999"),
    ],
)
def test_decimals_keep_their_scale_and_have_no_exponent_within_reason(value: str, text: str) -> None:
    assert decimal_text(Decimal(value)) == text


@pytest.mark.parametrize("value", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_there_are_no_decimals_beyond_numbers(value: str) -> None:
    with pytest.raises(ValueError, match=r"\.NET knows no decimal"):
        decimal_text(Decimal(value))


def test_time_spans_have_64_bits_of_ticks() -> None:
    longest = timedelta(days=10675199, hours=2, minutes=48, seconds=5, microseconds=477580)
    assert time_span(longest) == longest
    assert time_span(-longest) == -longest
    for value in (longest + timedelta.resolution, -longest - timedelta.resolution, timedelta.max, timedelta.min):
        with pytest.raises(ValueError, match=r"\.NET knows no TimeSpan"):
            time_span(value)


def test_offsets_are_whole_minutes() -> None:
    moment = datetime(2024, 2, 29, 12, 34, 56)  # noqa: DTZ001 - the zones follow
    assert offset_minutes(moment) is None
    for minutes in (0, 330, -570, 23 * 60 + 59):
        assert offset_minutes(moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))) == minutes
    for odd in (timedelta(hours=5, seconds=15), timedelta(microseconds=1)):
        with pytest.raises(ValueError, match=r"\.NET knows no offset"):
            offset_minutes(moment.replace(tzinfo=timezone(odd)))


def test_names_of_combined_flags() -> None:
    assert [member_names(flag) for flag in (Bits.One, Bits(3), Bits(0), Bits(8), Bits(9))] == [
        "One",
        "One, Two",
        "0",
        "8",
        "9",
    ]


wires = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "00:00:01", "Red", "cat", "2024-02-29", "AAAA", "5", UUID(int=5).hex]),
    lambda values: (
        st.lists(values, max_size=4)
        | st.dictionaries(
            st.sampled_from(["trackName", "TrackName", "kind", "livesLeft", "playTime"]), values, max_size=4
        )
    ),
    max_leaves=8,
)
TYPES: list[Any] = [
    Track,
    Tree,
    Cat | Dog,
    Move | Wait,
    Color | timedelta,
    dict[Color, timedelta],
    list[Decimal | None],
    tuple[float, timedelta],
    set[int] | Track,
    Row,
    Options,
]


@settings(deadline=None)
@given(wires, st.sampled_from(TYPES), st.booleans())
def test_anything_may_arrive_for_any_type(wire: Any, type_: Any, is_json: bool) -> None:
    encoding = JSON if is_json else MESSAGEPACK
    try:
        value = encoding.read(wire, type_)
    except (ValueError, OverflowError):
        return
    assert encoding.read(encoding.written(value), type_) == value or value != value


def outcome(wire: Any, type_: Any) -> Any:
    try:
        return JSON.read(wire, type_)
    except ValueError:
        return "does not fit"


ALONE: list[Any] = [
    int,
    float,
    str,
    bytes,
    bool,
    UUID,
    date,
    Decimal,
    int | str | None,
    list[float],
    dict[str, int],
    Any,
]


@settings(deadline=None)
@given(wires, st.sampled_from(ALONE))
def test_json_is_read_the_same_with_and_without_preparation(wire: Any, type_: Any) -> None:
    alone = outcome(wire, type_)
    beside = outcome([wire, "00:00:01"], tuple[type_, timedelta])
    assert beside == ("does not fit" if alone == "does not fit" else (alone, SECOND))


def test_an_object_has_names_for_keys() -> None:
    payloads = MessagePackPayloads.of("pascal", None, None)
    with pytest.raises(ValueError, match="Expected the name of a member, got `1`"):
        payloads.decoder(Track)(msgspec.msgpack.encode({1: "a"}))
