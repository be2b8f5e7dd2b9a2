"""Which bases each token of a model covers, checked window by window.

A tokenizer that gives offsets is asked for them; for one that does not, its token strings are
matched to the sequence. Either way the tokens' own strings must give the sequence back, base for
base (the unknown token covers what the vocabulary lacks), or the window is refused: features of a
bin are worth nothing if they come from another bin's tokens.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.embedders.huggingface.writing import Writing
from featurestore.errors import InputError

Span = tuple[int, int]

_NOTHING: Final[Span] = (0, 0)
_BYTE: Final = re.compile(r"<0x([0-9A-F]{2})>")
_MARKS: Final = ("##", "▁", "Ġ", "@@", "</w>")
"""What tokenizers put at the edge of a token to say where words begin, end or go on."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of one window, special ones included, in the order in which the model reads them.

    Parameters
    ----------
    ids : int64 array, shape (t,)
    start, stop : int64 arrays, shape (t,)
        Bases that the token covers, half-open; ``start == stop`` for special tokens.
    """

    ids: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def cropped(self, limit: int, first: int, last: int) -> Tokens:
        """At most ``limit`` tokens: those farthest from bases ``first`` … ``last`` − 1 go first.

        Special tokens and those that touch these bases stay.

        Raises
        ------
        InputError
            Where these alone are more than ``limit``.
        """
        surplus = len(self) - limit
        if surplus <= 0:
            return self
        away = np.maximum(first - self.stop, self.start - last)
        away[self.start == self.stop] = -1
        if int((away >= 0).sum()) < surplus:
            raise InputError(
                f"huggingface: bases {first} to {last - 1} of a window can be more tokens than the {limit} "
                "that the model takes, since each N is a token of its own; give recipe = { span = … } a "
                "smaller span, or write ambiguous = another letter"
            )
        keep = np.ones(len(self), bool)
        keep[np.argsort(-away, kind="stable")[:surplus]] = False
        return Tokens(self.ids[keep], self.start[keep], self.stop[keep])

    def base_weights(self, first: int, last: int) -> NDArray[np.float32]:
        """Weights that make base vectors of token vectors, shape (last − first, t).

        The vector of a base is the mean over the tokens that cover it.
        """
        base = np.arange(first, last)[:, None]
        covers = (self.start <= base) & (base < self.stop)
        weights: NDArray[np.float32] = (covers / covers.sum(axis=1, keepdims=True)).astype(
            np.float32
        )
        return weights

    def mean_weights(self, first: int, last: int) -> NDArray[np.float32]:
        """Weights of the tokens in the mean over bases ``first`` … ``last`` − 1, shape (t,).

        Each token counts with the bases of the span that it covers, so that the mean over tokens
        is the mean over base vectors wherever the borders of tokens fall.
        """
        length = int(self.stop.max(initial=0))
        edges = np.bincount(self.start, minlength=length + 1) - np.bincount(
            self.stop, minlength=length + 1
        )
        # A cropped window has bases that no token covers, none of them in the span.
        share = np.concatenate([[0.0], np.cumsum(1 / np.maximum(np.cumsum(edges)[:length], 1))])
        low = np.clip(self.start, first, last)
        high = np.clip(self.stop, first, last).clip(low)
        inside = share[np.minimum(high, length)] - share[np.minimum(low, length)]
        weights: NDArray[np.float32] = (inside / (last - first)).astype(np.float32)
        return weights


class Aligner:
    """Tokens of windows with the bases they cover.

    Parameters
    ----------
    tokenizer : a tokenizer of ``transformers``, with or without offsets
    writing : Writing
    """

    def __init__(self, tokenizer: Any, writing: Writing) -> None:
        self.tokenizer = tokenizer
        self.writing = writing
        self.name = type(tokenizer).__name__
        self._special = frozenset(tokenizer.all_special_ids)
        self._lock = threading.Lock()  # a fast tokenizer asked by two threads at once raises

    def __call__(self, codes: NDArray[np.uint8]) -> list[Tokens]:
        """Tokens of every row of ``codes``, shape (n, length), special tokens added.

        Raises
        ------
        InputError
            Where tokens and bases do not fit, naming tokenizer, place and sequence.
        """
        texts = self.writing.texts(codes)
        place = self.writing.base_of_character(codes.shape[1])
        found = []
        pairs = self._with_offsets(texts) if self.tokenizer.is_fast else self._by_matching(texts)
        for text, (ids, spans) in zip(texts, pairs, strict=True):
            self._check_covered(text, spans)
            start, stop = (np.array(x, np.int64) for x in zip(*spans, strict=True))
            empty = start == stop
            start, stop = place[np.minimum(start, len(place) - 1)], place[stop - 1] + 1
            start[empty] = stop[empty] = 0
            found.append(Tokens(np.array(ids, np.int64), start, stop))
        return found

    def _with_offsets(self, texts: list[str]) -> list[tuple[list[int], list[Span]]]:
        with self._lock:
            encoded = self.tokenizer(texts, padding=False, truncation=False, verbose=False)
        return [
            (
                e.ids,
                [
                    _NOTHING if special else self._span(text, token, *offsets)
                    for token, offsets, special in zip(
                        e.tokens, e.offsets, e.special_tokens_mask, strict=True
                    )
                ],
            )
            for text, e in zip(texts, encoded.encodings, strict=True)
        ]

    def _span(self, text: str, token: str, start: int, stop: int) -> Span:
        """Characters that a token stands for; its offsets must hold its own string."""
        own = text[start:stop]
        start += len(own) - len(own.lstrip())
        own = own.strip()
        if token == self.tokenizer.unk_token:
            return start, start + len(own)
        piece = _letters(token)
        if not piece:
            return _NOTHING
        if piece.casefold() != own.casefold():
            raise self._misfit(
                text, start, f"token {token!r} has offsets {start} to {stop}, {own!r}"
            )
        return start, start + len(own)

    def _by_matching(self, texts: list[str]) -> list[tuple[list[int], list[Span]]]:
        found = []
        for text in texts:
            tokens = self.tokenizer.tokenize(text)
            own = self.tokenizer.convert_tokens_to_ids(tokens)
            ids = self.tokenizer(text, padding=False, truncation=False, verbose=False)["input_ids"]
            before = self._specials_before(ids, own, text)
            after = len(ids) - before - len(own)
            spans = [*[_NOTHING] * before, *self._matched(text, tokens), *[_NOTHING] * after]
            found.append((list(ids), spans))
        return found

    def _specials_before(self, ids: list[int], own: list[int], text: str) -> int:
        """How many special tokens stand in front of the sequence's own."""
        for before in range(len(ids) - len(own) + 1):
            rest = [*ids[:before], *ids[before + len(own) :]]
            if list(ids[before : before + len(own)]) == own and self._special.issuperset(rest):
                return before
        raise self._misfit(
            text, 0, "its ids are not those of its tokens with special tokens around"
        )

    def _matched(self, text: str, tokens: list[str]) -> list[Span]:
        at = 0
        spans = []
        for token in tokens:
            while text[at : at + 1] == " ":
                at += 1
            piece = _letters(token)
            if token == self.tokenizer.unk_token:  # a word as a whole; its letters are not told
                stop = text.find(" ", at) if " " in text[at:] else len(text)
            elif text[at : at + len(piece)].casefold() == piece.casefold():
                stop = at + len(piece)
            else:
                raise self._misfit(text, at, f"token {token!r} is not what stands there")
            spans.append((at, stop) if stop > at else _NOTHING)
            at = stop
        return spans

    def _check_covered(self, text: str, spans: list[Span]) -> None:
        """Refuse tokens that do not give the text back: each letter once, in order."""
        at = 0
        for start, stop in spans:
            if start == stop:
                continue
            if start < at:
                raise self._misfit(text, start, "two tokens cover the same base")
            if text[at:start].strip():
                raise self._misfit(text, at, f"no token covers {text[at:start].strip()[:20]!r}")
            at = stop
        if text[at:].strip():
            raise self._misfit(text, at, f"no token covers {text[at:].strip()[:20]!r}")

    def _misfit(self, text: str, at: int, what: str) -> InputError:
        around = text[max(at - 10, 0) : at + 20]
        return InputError(
            f"huggingface: {self.name} does not give the sequence back: at character {at} of "
            f"{len(text)}, in {around!r}, {what}. See the settings tokens (now {self.writing.tokens}), case "
            f"({self.writing.case}) and ambiguous ({self.writing.ambiguous}): the text must be written as in the "
            "model's training, with letters that its vocabulary holds"
        )


def _letters(token: str) -> str:
    """The letters of a token, without marks of words; a byte token is its character."""
    if byte := _BYTE.fullmatch(token):
        return chr(int(byte[1], 16))
    for mark in _MARKS:
        token = token.removeprefix(mark).removesuffix(mark)
    return token.strip()
