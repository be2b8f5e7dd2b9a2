"""What runs beside a model: compiled windows and digests, vectors put in place, memory used again."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.build.reuse.digests import input_digests
from featurestore.build.shards import compute, scratch
from featurestore.build.shards.compute import embed_distinct, embed_range, first_occurrences
from featurestore.build.windows import window_kernels
from featurestore.build.windows.window_source import WindowSource, lay_down
from featurestore.embedders.base import EmbedderSpec
from featurestore.inputs.model import SpeciesData
from featurestore.native import loading
from featurestore.sequence.iupac import N
from tests.builders.species import REGIONS, random_species


@pytest.fixture
def compiled(monkeypatch):
    monkeypatch.setenv(loading.SWITCH, "auto")
    if window_kernels.kernels(window_kernels.SMALL) is None:
        pytest.skip(f"needs a C compiler: {window_kernels._loaded.absence()}")

    def switch(on: bool) -> None:
        monkeypatch.setenv(loading.SWITCH, "on" if on else "off")

    return switch


def short_sequences() -> SpeciesData:
    rng = np.random.default_rng(3)
    length = rng.integers(0, 501, (30, 2)).astype(np.int32)
    code = rng.integers(0, 15, (30, 2, 500)).astype(np.uint8)
    names = [f"g{i}" for i in range(30)]
    return SpeciesData(
        name="s", kind="sequences", gene=names, locus=names, contig=[""] * 30,
        strand=np.zeros(30, np.int8), tss=np.full(30, -1), tts=np.full(30, -1), family=[""] * 30,
        regions=REGIONS, region_code=code, region_length=length,
    )  # fmt: skip


@pytest.mark.parametrize("bin_bp", [100, 130])
@pytest.mark.parametrize("kind", ["genome", "sequences"])
def test_compiled_windows_are_those_of_python(tmp_path, compiled, kind, bin_bp):
    # Genes at the ends of contigs, so that windows reach beyond them.
    data = random_species(genes=60, contig_bp=2_500) if kind == "genome" else short_sequences()
    lay_down(tmp_path, data, bin_bp)
    source = WindowSource(tmp_path)
    for input_bp in (None, bin_bp, bin_bp + 1, 333, 2_000):
        compiled(on=False)
        slow = source.bin_inputs(3, source.genes - 1, input_bp)
        assert (slow == N).any()
        compiled(on=True)
        np.testing.assert_array_equal(source.bin_inputs(3, source.genes - 1, input_bp), slow)


@given(st.integers(0, 2**32 - 1), st.integers(1, 700), st.integers(0, 20))
@settings(max_examples=40, deadline=None)
def test_digests_are_blake2b(seed, width, count):
    rng = np.random.default_rng(seed)
    rows, wanted = rng.integers(0, 256, (count, width), dtype=np.uint8), rng.random(count) < 0.7
    found = input_digests(rows, wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_kernels, "SMALL", 0)
        also = input_digests(rows, wanted)
    for i in range(count):
        digest = hashlib.blake2b(rows[i].tobytes(), digest_size=16).digest()
        expected = digest if wanted[i] else bytes(16)
        assert found[i].tobytes() == also[i].tobytes() == expected


@given(st.lists(st.integers(0, 6), max_size=30), st.booleans())
def test_first_occurrences_are_first_and_cover_all(values, share_half):
    digest = np.zeros((len(values), 16), np.uint8)
    digest[:, 12 if share_half else 0] = values
    first, which = first_occurrences(digest)
    which = np.arange(len(values)) if which is None else which
    assert first.tolist() == sorted({v: values.index(v) for v in values}.values())
    assert [values[first[w]] for w in which] == values


class Table:
    """Gives each input a vector that follows from its bases alone; counts what it is asked."""

    def __init__(self, dtype=np.float32) -> None:
        self.spec = EmbedderSpec(type="t", outputs={"a": 3, "b": 0}, input_bp=100, batch=8)
        self.asked, self.dtype = 0, dtype

    def load(self, device):
        pass

    def embed(self, codes):
        self.asked += len(codes)
        a = np.stack([codes[:, 0], codes[:, 50], codes.sum(1)], axis=1).astype(self.dtype)
        return {"a": a, "b": codes[:, 7].astype(self.dtype)}


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_every_input_gets_its_own_vector_wherever_it_comes_from(seed):
    """Repeated inputs, known ones, gaps between rows, batches that end short, overflow."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (rng.integers(1, 40), 100), dtype=np.uint8)
    codes = codes[rng.integers(0, len(codes), rng.integers(1, 60))]
    at = np.sort(rng.choice(90, len(codes), replace=False))
    digest = input_digests(codes, np.ones(len(codes), bool))
    table = Table()
    right = table.embed(codes)
    told = rng.random(len(codes)) < 0.4
    told_digests = {d.tobytes(): i for i, d in enumerate(digest) if told[i]}

    def known(wanted):
        rows = [told_digests.get(d.tobytes(), -1) for d in wanted]
        have = np.array(rows) >= 0
        return have, {n: v[[r for r in rows if r >= 0]].astype("<f2") for n, v in right.items()}

    out = {"a": np.full((90, 3), -1, "<f2"), "b": np.full(90, -1, "<f2")}
    computed, reused, bad = embed_distinct(table, lambda w: codes[w], digest, out, at, known)
    assert computed == len({d.tobytes() for d in digest} - set(told_digests))
    assert computed + reused == len(codes)
    for name, values in out.items():
        np.testing.assert_array_equal(values[at], right[name].astype("<f2"))
        assert (np.delete(values, at, axis=0) == -1).all()
        assert not bad[name].any()


def test_memory_that_was_lent_before_shows_nowhere(tmp_path):
    data = random_species(genes=40)
    data.genome.code[:6_000] = N  # bins without a base, whose vectors are zeros
    lay_down(tmp_path, data, 100)
    source = WindowSource(tmp_path)
    plain = embed_range(Table(), source, 0, 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "SMALL", 1)
        scratch.forget()
        for _ in range(2):
            with scratch.lending() as lend:
                first = lend((40, 2, 5, 3), "<f2")
                first[...] = 77
                for size in (10, 1_000, 40_000):
                    lend((size,), np.uint8)[:] = 99
        assert scratch._free
        with scratch.lending() as lend:
            again = embed_range(Table(), source, 0, 40, lend=lend)
            for name, values in plain.outputs.items():
                np.testing.assert_array_equal(again.outputs[name], values)
    scratch.forget()


def test_two_borrowers_never_have_the_same_memory(monkeypatch):
    monkeypatch.setattr(scratch, "SMALL", 16)
    scratch.forget()
    with scratch.lending() as lend:
        lend((100,), np.uint8)
    with scratch.lending() as one, scratch.lending() as other:
        a, b = one((90,), np.uint8), other((90,), np.uint8)
        a[:], b[:] = 1, 2
        assert not np.shares_memory(a, b)
        assert (a == 1).all()
    scratch.forget()


def test_float16_overflow_is_told_once_for_each_repeat():
    codes = np.zeros((3, 100), np.uint8)
    digest = input_digests(codes, np.ones(3, bool))

    class Huge(Table):
        def embed(self, codes):
            return {"a": np.full((len(codes), 3), 1e6, np.float32), "b": np.zeros(len(codes), np.float32)}  # fmt: skip

    out = {"a": np.zeros((3, 3), "<f2"), "b": np.zeros(3, "<f2")}
    _, _, bad = embed_distinct(Huge(), lambda w: codes[w], digest, out, np.arange(3))
    assert bad["a"].all()
    assert not bad["b"].any()
    assert compute._not_finite(out["a"]).all()
