"""Text of rows and words, read by whole arrays: no Python statement runs once per line or per word.

A text mesh is mostly numbers. `blocks` cuts the file into pieces of whole lines, small enough that their temporary
arrays cost little and stay in the cache, and finds the words of each; `Block.numbers` parses any of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from refine_batch.io.formats.common import MeshFormatError, excerpt

MAX_LINE = 1 << 20
_BLOCK = 1 << 18
_PAD = 16
_IS_SPACE = np.zeros(256, dtype=bool)
_IS_SPACE[list(b" \t\n\r\x0b\x0c")] = True
_SPACE, _HASH, _SLASH, _NEWLINE = b" #/\n"


@dataclass(frozen=True)
class Block:
    """Some whole lines of a file.

    Parameters
    ----------
    text : (N,) uint8
        The lines, comments blanked, and a little white space behind them.
    offset, line
        Byte and line (from 1) of the file at which the block begins.
    starts : (W,) int64
        Where in `text` each word begins.
    first : (R,) int64
        The first word of each row; a row is a line that has words.
    """

    text: np.ndarray
    offset: int
    line: int
    starts: np.ndarray
    first: np.ndarray

    @cached_property
    def counts(self) -> np.ndarray:
        """(R,) words of each row."""
        return np.diff(self.first, append=len(self.starts))

    @cached_property
    def row(self) -> np.ndarray:
        """(W,) the row of each word."""
        return np.repeat(np.arange(len(self.first)), self.counts)

    @cached_property
    def place(self) -> np.ndarray:
        """(W,) each word's place in its row, from 0."""
        return np.arange(len(self.starts)) - np.repeat(self.first, self.counts)

    def begins_with(self, keyword: bytes, *, any_case: bool = False) -> np.ndarray:
        """(R,) whether the row's first word is `keyword`, of lower-case letters."""
        at = self.starts[self.first]
        same = _IS_SPACE[self.text[at + len(keyword)]]
        for i, letter in enumerate(keyword):
            found = self.text[at + i]
            same &= (found | 0x20 if any_case else found) == letter
        return same

    def numbers(self, wanted: np.ndarray, *, whole: bool = False) -> np.ndarray:
        """The words where `wanted` (W,) is true, as float64, or as int64 where they have to be `whole`."""
        count = int(np.count_nonzero(wanted))
        if count == 0:
            return np.zeros(0, dtype=np.int64 if whole else np.float64)
        begin = int(self.starts[0])
        values = _parsed(self.text[begin:][wanted[self._word]].tobytes(), whole)
        if values is None or len(values) != count:
            raise self._fault(np.flatnonzero(wanted), whole)
        return values

    def fields(self, wanted: np.ndarray, field: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of words such as `1/2/3` the whole number behind so many slashes.

        Returns which words have one, the words' numbers themselves, and where in `text` each begins.
        """
        begin = int(self.starts[0]) if len(self.starts) else 0
        text = self.text[begin:]
        kept = wanted[self._word] & ~_IS_SPACE[text]
        if field or (text == _SLASH).any():
            slashes = np.cumsum(text == _SLASH, dtype=np.int32)
            before = slashes[self.starts - begin] - (text[self.starts - begin] == _SLASH)
            kept &= (slashes - before[self._word] == field) & (text != _SLASH)
        places = np.flatnonzero(kept & ~np.concatenate([[False], kept[:-1]]))
        words = self._word[places]
        values = _parsed(np.where(kept, text, _SPACE).tobytes(), whole=True) if len(places) else np.zeros(0, np.int64)
        if values is None or len(values) != len(places) or (field == 0 and len(words) < np.count_nonzero(wanted)):
            raise self._fault(np.flatnonzero(wanted), True, field)
        return words, values, places + begin

    @cached_property
    def _word(self) -> np.ndarray:
        """(N',) the word that each character from the first word on belongs to, or stands behind."""
        begin = int(self.starts[0]) if len(self.starts) else 0
        word = np.zeros(len(self.text) - begin, dtype=np.int32)
        word[self.starts[1:] - begin] = 1
        return np.cumsum(word, out=word, dtype=np.int32)

    def leading_numbers(self) -> tuple[np.ndarray, MeshFormatError | None]:
        """float64 values of the words up to the first that is no number, and what is wrong with that one."""
        place = np.arange(len(self.starts))
        try:
            return self.numbers(place >= 0), None
        except MeshFormatError as fault:
            good, bad = 0, len(place)
            while bad - good > 1:
                middle = (good + bad) // 2
                try:
                    self.numbers(place < middle)
                    good = middle
                except MeshFormatError:
                    bad = middle
            return self.numbers(place < good), fault

    def word(self, index: int) -> bytes:
        at = int(self.starts[index])
        return self.text[at:].tobytes()[: MAX_LINE + 1].split(None, 1)[0]

    def line_of(self, word: int) -> int:
        """The line, from 1, that a word stands on."""
        return self.line + int(np.count_nonzero(self.text[: int(self.starts[word])] == _NEWLINE))

    def _fault(self, words: np.ndarray, whole: bool, field: int | None = None) -> MeshFormatError:
        """Which of the words is no number; only here are they looked at one by one."""
        for index in words.tolist():
            word = self.word(index)
            parts = [word] if field is None else word.split(b"/")[field : field + 1]
            values = _parsed(parts[0], whole) if parts and (parts[0] or not field) else np.zeros(1)
            if values is None or len(values) != 1:
                kind = "a whole number" if whole else "a number"
                return MeshFormatError(f"line {self.line_of(index)}: {excerpt(word)} is not {kind}")
        return MeshFormatError(f"its numbers run into one another near line {self.line}")


def _parsed(text: bytes, whole: bool) -> np.ndarray | None:
    if not text.strip():
        return None
    try:
        return np.fromstring(text, dtype=np.int64 if whole else np.float64, sep=" ")
    except (ValueError, DeprecationWarning):  # the second: numpy before 2.3, where warnings are errors
        return None


def blocks(data: bytes, start: int = 0, *, comments: bool) -> Iterator[Block]:
    """The file from byte `start` on; with `comments`, what stands from # to the end of a line is blanked.

    Files whose lines end in carriage returns alone are understood. A line longer than `MAX_LINE` raises.
    """
    if data.find(b"\n", start) < 0:
        data = data.replace(b"\r", b"\n")
    at, line = start, 1 + data.count(b"\n", 0, start)
    while at < len(data):
        stop = data.rfind(b"\n", at, at + _BLOCK) + 1
        if stop == 0:
            stop = data.find(b"\n", at + _BLOCK, at + MAX_LINE + 1) + 1 or len(data)
            if stop - at > MAX_LINE + 1:
                end = data.find(b"\n", at)
                length = (end if end >= 0 else len(data)) - at
                raise MeshFormatError(f"line {line} has {length} bytes; the limit is {MAX_LINE}")
        text = np.full(stop - at + _PAD, _SPACE, dtype=np.uint8)
        text[: stop - at] = np.frombuffer(data, dtype=np.uint8, count=stop - at, offset=at)
        if comments and data.find(b"#", at, stop) >= 0:
            _blank_comments(text)
        yield _block(text, at, line)
        line += data.count(b"\n", at, stop)
        at = stop


def _block(text: np.ndarray, offset: int, line: int) -> Block:
    space = _IS_SPACE[text]
    begins = ~space
    begins[1:] &= space[:-1]
    starts = np.flatnonzero(begins)
    ends = np.flatnonzero(text == _NEWLINE)
    row = np.searchsorted(ends, starts)
    first = np.flatnonzero(np.diff(row, prepend=-1))
    return Block(text, offset, line, starts, first)


def _blank_comments(text: np.ndarray) -> None:
    """From each # to the end of its line; the line ends stay."""
    at = np.arange(len(text), dtype=np.int32)
    hashes = np.maximum.accumulate(np.where(text == _HASH, at, -1))
    ends = np.maximum.accumulate(np.where(text == _NEWLINE, at, -1))
    text[(hashes > ends) & (text != _NEWLINE)] = _SPACE
