"""Settings, their defaults and their limits."""

from dataclasses import FrozenInstanceError

import pytest

from hubproto_core import HubConfig


def test_defaults_are_those_of_aspnet_core() -> None:
    config = HubConfig()
    assert (config.handshake_timeout, config.keep_alive_interval, config.silence_timeout) == (15.0, 15.0, 30.0)
    assert (config.max_message_size, config.max_parallel_calls, config.stream_buffer) == (32768, 1, 10)
    assert config.detailed_errors is False


def test_messages_may_be_of_any_size() -> None:
    assert HubConfig(max_message_size=None).max_message_size is None


@pytest.mark.parametrize("name", ["handshake_timeout", "keep_alive_interval", "silence_timeout", "close_timeout"])
@pytest.mark.parametrize("value", [0, -1.5])
def test_durations_are_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"HubConfig\.{name} must be positive, not {value}"):
        HubConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [
        "max_depth",
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


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        HubConfig().detailed_errors = True  # type: ignore[misc]
