"""How the members of objects are named on the wire."""

from __future__ import annotations

from typing import Any

import pytest

from hubproto_core._codecs._naming import renamer


@pytest.mark.parametrize(
    ("name", "camel", "pascal"),
    [
        ("x", "x", "X"),
        ("X", "x", "X"),
        ("delay", "delay", "Delay"),
        ("delay_ms", "delayMs", "DelayMs"),
        ("delayMs", "delayMs", "DelayMs"),
        ("DelayMs", "delayMs", "DelayMs"),
        ("URL", "url", "URL"),
        ("URLPath", "urlPath", "URLPath"),
        ("IOStream", "ioStream", "IOStream"),
        ("XAxis", "xAxis", "XAxis"),
        ("ID2x", "iD2x", "ID2x"),
        ("x_1", "x1", "X1"),
        ("int_", "int", "Int"),
        ("_private", "private", "Private"),
        ("a__b", "aB", "AB"),
        ("_", "_", "_"),
        ("élan_vital", "élanVital", "ÉlanVital"),
    ],
)
def test_policies(name: str, camel: str, pascal: str) -> None:
    assert renamer("camel")(name) == camel
    assert renamer("pascal")(name) == pascal
    assert renamer(None)(name) == name


def test_a_function_may_name_members() -> None:
    assert renamer(str.upper)("delay_ms") == "DELAY_MS"


def test_unknown_policies_are_refused() -> None:
    policy: Any = "kebab"
    with pytest.raises(ValueError, match="rename must be 'camel', 'pascal', a function or None, not 'kebab'"):
        renamer(policy)
