"""Settings, their defaults and their limits."""

import ast
import inspect
from dataclasses import FrozenInstanceError
from itertools import pairwise
from pathlib import Path

import pytest

from hubproto_core import HubConfig


def test_defaults_are_those_of_aspnet_core() -> None:
    config = HubConfig()
    assert (config.handshake_timeout, config.keep_alive_interval, config.silence_timeout) == (15.0, 15.0, 30.0)
    assert (config.max_message_size, config.max_parallel_calls, config.stream_buffer) == (32768, 1, 10)
    assert (config.ack_interval, config.resume_window, config.replay_buffer) == (1.0, 15.0, 100_000)
    assert (config.max_handshake_size, config.max_depth) == (32768, 64)
    assert config.detailed_errors is False


def test_messages_may_be_of_any_size() -> None:
    assert HubConfig(max_message_size=None).max_message_size is None


@pytest.mark.parametrize(
    "name",
    ["handshake_timeout", "keep_alive_interval", "silence_timeout", "close_timeout", "ack_interval", "resume_window"],
)
@pytest.mark.parametrize("value", [0, -1.5, float("nan")])
def test_durations_are_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"HubConfig\.{name} must be positive, not {value}"):
        HubConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [
        "max_handshake_size",
        "max_depth",
        "max_arguments",
        "max_headers",
        "max_header_size",
        "max_id_length",
        "max_open_calls",
        "max_open_streams",
        "replay_buffer",
        "max_parallel_calls",
        "stream_buffer",
        "stream_buffer_limit",
        "send_buffer",
        "send_limit",
        "max_message_size",
    ],
)
def test_limits_are_at_least_one(name: str) -> None:
    with pytest.raises(ValueError, match=rf"HubConfig\.{name} must be at least 1.*, not 0"):
        HubConfig(**{name: 0})  # type: ignore[arg-type]


def test_every_setting_says_what_it_is() -> None:
    """Field for field, in the order of their declaration, a docstring stands in the source."""
    source = ast.parse(Path(inspect.getfile(HubConfig)).read_text(encoding="utf-8"))
    (body,) = [node.body for node in source.body if isinstance(node, ast.ClassDef)]
    for field, docstring in pairwise(body):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(docstring, ast.Expr), ast.unparse(field)


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        HubConfig().detailed_errors = True  # type: ignore[misc]
