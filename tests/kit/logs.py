"""What the documentation says of the log."""

from __future__ import annotations

import logging
import re
from pathlib import Path

__all__ = ["documented", "facts_of", "kind_of"]

_PAGE = Path(__file__).parents[2] / "docs/hubs.md"
_ROW = re.compile(r"^\| (\w+) \| (\w+) \| `(.+?)` \|", re.MULTILINE)


def documented() -> set[tuple[str, str, str]]:
    """Logger, level and message of each record that the page lists."""
    section = _PAGE.read_text(encoding="utf-8").partition("\n## Logging\n")[2].partition("\n## ")[0]
    return {(f"hubproto_core.{logger}", level, message) for logger, level, message in _ROW.findall(section)}


def kind_of(record: logging.LogRecord) -> tuple[str, str, str]:
    """Logger, level and message of a record."""
    return record.name, record.levelname.lower(), record.msg


def facts_of(record: logging.LogRecord) -> list[object]:
    """Hub, connection, user, method and kind of error of a record, as far as there are any."""
    names = ("hub", "connection_id", "user_id", "hub_method", "error_kind")
    return [value for name in names if (value := vars(record)[name]) is not None]
