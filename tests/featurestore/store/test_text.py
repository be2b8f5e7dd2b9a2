"""String chunks read without zarr-python, held against numcodecs' ``vlen-utf8``."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import VLenUTF8

from featurestore.store import text
from featurestore.store.text import NotTextError, StoredText


def _encoded(items: list[str]) -> bytes:
    return bytes(VLenUTF8().encode(np.array(items, dtype=object)))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(max_size=12), max_size=60), st.data())
def test_strings_are_what_numcodecs_encoded(items, data):
    stored = StoredText.parse(_encoded(items), len(items))
    assert stored.all().tolist() == items
    wanted = data.draw(st.lists(st.sampled_from(items), max_size=3)) if items else ["x"]
    expected = [i for i, item in enumerate(items) if item in wanted]
    assert stored.rows_of(wanted).tolist() == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda i: f"AT{i:06d}",
        lambda i: f"g{i}",
        lambda i: "" if i % 3 else f"F{i}",
        lambda i: "é" * (i % 40) + "\0" * (i % 3),
        lambda i: "x" * (300 if i % 1000 == 0 else 2),
    ],
    ids=["regular", "ids", "singletons", "odd", "long"],
)
def test_many_walkers_find_what_one_finds(make, monkeypatch):
    items = [make(i) for i in range(30_000)]
    data = _encoded(items)
    many = StoredText.parse(data, len(items))
    monkeypatch.setattr(text, "_MANY", 10**9)
    one = StoredText.parse(data, len(items))
    np.testing.assert_array_equal(many.start, one.start)
    assert many.at(np.array([0, 17, 29_999])) == [items[0], items[17], items[29_999]]


def test_a_name_within_another_is_not_found():
    inner = "\x03\0\0\0abc"
    items = [f"x{inner}", "abc", "zabc"]
    stored = StoredText.parse(_encoded(items), 3)
    assert stored.rows_of(["abc"]).tolist() == [1]
    assert stored.rows_of([inner]).tolist() == []


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 2**40))
def test_bytes_that_are_no_strings_say_so(data, n):
    try:
        stored = StoredText.parse(data, n)
    except NotTextError:
        return
    assert len(stored) == n
    assert stored.data == data


def test_a_cut_or_longer_chunk_is_refused():
    data = _encoded(["a", "bc", ""])
    for wrong in (data[:-1], data + b"\0", data[:4]):
        with pytest.raises(NotTextError):
            StoredText.parse(wrong, 3)
    with pytest.raises(NotTextError):
        StoredText.parse(data, 2)
