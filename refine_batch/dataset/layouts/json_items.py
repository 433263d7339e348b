"""The items of a JSON list or object one by one, as far as they can be read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class CutShortError(ValueError):
    """The text ends, or stops being JSON, before its last item; `items` were read before that."""

    def __init__(self, items: int, position: int, reason: str):
        super().__init__(f"after {items} items, at character {position:,}: {reason}")
        self.items = items


def json_items(text: str) -> Iterator[tuple[str | int, Any]]:
    """(key or index, value) of each item of a JSON object or list.

    Raises
    ------
    CutShortError
        After the last item that could be read: the file was cut short or damaged there.
    """
    text = text.removeprefix("\ufeff")
    at = _skip(text, 0)
    opening = text[at : at + 1]
    if opening not in ("[", "{"):
        raise CutShortError(0, at, "a JSON list or object is needed")
    closing = "]" if opening == "[" else "}"
    at = _skip(text, at + 1)
    if text[at : at + 1] == closing:
        return
    for count in _counter():
        try:
            key: str | int = count
            if opening == "{":
                key, at = _DECODER.raw_decode(text, at)
                if not isinstance(key, str):
                    raise ValueError("a name in quotes is needed")
                at = _expect(text, at, ":")
            value, at = _DECODER.raw_decode(text, at)
            # A number that ends with the text may have lost its last digits, and one before what is no part of it as
            # well: of "1e+16", "1e" is left.
            if text[at : at + 1] in (".", "e", "E"):
                raise ValueError("a number is cut short")
            at = _skip(text, at)
            if at >= len(text):
                raise ValueError("the text ends")
        except (ValueError, RecursionError) as error:
            raise CutShortError(count, at, _reason(error, text, at)) from None
        yield key, value
        if text[at] == closing:
            return
        if text[at] != ",":
            raise CutShortError(count + 1, at, f"a comma is missing before {text[at : at + 10]!r}")
        at = _skip(text, at + 1)


def _counter() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _expect(text: str, at: int, sign: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != sign:
        raise ValueError(f"{sign!r} is missing")
    return _skip(text, at + 1)


def _reason(error: Exception, text: str, at: int) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "the text ends" if at >= len(text) else getattr(error, "msg", None) or str(error)
