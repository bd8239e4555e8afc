"""JSON text as System.Text.Json takes it and writes it, where that differs from msgspec (SPEC 2.2, 2.2.3)."""

from __future__ import annotations

import re

__all__ = ["dotnet_text", "is_plain", "repaired"]

# A string that does not end is one token too: tried again at each quote in it, it would take quadratic time.
_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_ESCAPED_NAME = re.compile(rb'[{,]\s*"[^"]*\\u')


def is_plain(record: bytes, max_depth: int) -> bool:
    """Whether a text may be given to msgspec, which does not look for these: bytes that are no UTF-8, names that are
    spelled with escapes, values nested deeper than `max_depth` levels."""
    if not record.isascii():
        try:
            record.decode()
        except UnicodeDecodeError:
            return False
    if record.count(b"[") + record.count(b"{") > max_depth:
        depth = 0
        for bracket in _BRACKETS.finditer(record):
            if bracket[0] in b"[{":
                depth += 1
                if depth > max_depth:
                    return False
            elif bracket[0] in b"]}":
                depth -= 1
    return not (b"\\u" in record and _ESCAPED_NAME.search(record))


_HALF_PAIR = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def repaired(data: bytes) -> bytes:
    """Put U+FFFD where a text is no UTF-8 or has half of a surrogate pair, as the reference does in its own values."""
    text = data.decode("utf-8", "replace")
    return _HALF_PAIR.sub(lambda found: "\ufffd" if found[1] else found[0], text).encode()


# What the relaxed escaper of .NET escapes: control, private-use and separator characters, the byte order mark, and all
# beyond the basic plane, as pairs. (Also what Unicode leaves unassigned; that differs by release and is left raw here.)
_ESCAPED = re.compile(
    "[\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ue000-\uf8ff\ufdd0-\ufdef\ufeff\ufff0-\ufff8\ufffe\uffff"
    "\U00010000-\U0010ffff]"
)
_LOWER_HEX = re.compile(rb"\\(?:u00([01][a-f])|.)", re.DOTALL)


def dotnet_text(data: bytes) -> bytes:
    """Rewrite what msgspec has written the way .NET escapes it."""
    if not data.isascii() or b"\x7f" in data:
        data = _ESCAPED.sub(_escape, data.decode()).encode()
    if b"\\u00" in data:
        data = _LOWER_HEX.sub(_upper_hex, data)
    return data


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be").hex().upper()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def _upper_hex(match: re.Match[bytes]) -> bytes:
    return b"\\u00" + match[1].upper() if match[1] else match[0]
