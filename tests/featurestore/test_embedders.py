"""Contract of every registered embedder, and truths about the built-in ones."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.build.shards.compute import in_batches
from featurestore.embedders.base import Embedder
from featurestore.embedders.kmer import Kmer
from featurestore.embedders.registry import embedder_class, list_embedders, make_embedder
from featurestore.errors import InputError, UnknownNameError
from featurestore.sequence.iupac import LETTERS, encode, reverse_complement
from tests.builders.models import random_enformer, random_plantcaduceus

GIVEN = ("arrays",)  # read by gene, not computed: tests/featurestore/deposits/test_empres.py
TYPES = [row.type for row in list_embedders() if row.type not in GIVEN]
LENGTH = 120
ELSEWHERE = ("a2z", "huggingface")


@pytest.fixture(scope="session")
def settings_of(tmp_path_factory) -> dict[str, dict]:
    """Settings of the types that need some."""
    return {
        "plantcaduceus": {
            "checkpoint": str(random_plantcaduceus(tmp_path_factory.mktemp("pc"))),
            "recipe": {"window": LENGTH, "span": 50},
            "batch": 4,
        },
        "enformer": {
            "checkpoint": str(random_enformer(tmp_path_factory.mktemp("enformer"))),
            "keep": 4, "strands": "average", "shifts": [-1, 0],
        },
    }  # fmt: skip


@pytest.fixture(params=TYPES)
def embedder(request, settings_of) -> Embedder:
    if request.param in ELSEWHERE:
        pytest.skip(
            f"its own weights are needed: tests/featurestore/embedders/test_{request.param}.py"
        )
    made = make_embedder(request.param, settings_of.get(request.param))
    made.load("cpu")
    return made


def _codes(n: int, length: int = LENGTH) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 15, (n, length)).astype(np.uint8)


def _length(embedder: Embedder) -> int:
    return embedder.spec.input_bp or LENGTH


def test_outputs_have_the_declared_shape_and_are_finite(embedder):
    codes = _codes(5, _length(embedder))
    result = embedder.embed(codes)
    for name, channels in embedder.spec.outputs.items():
        shape = (embedder.spec.positions,) if embedder.spec.positions else ()
        assert result[name].shape == (5, *shape, *((channels,) if channels else ()))
        assert np.isfinite(result[name]).all()


def test_a_row_does_not_depend_on_its_neighbours(embedder):
    codes = _codes(embedder.spec.batch + 8, _length(embedder))
    if not embedder.spec.outputs:
        pytest.skip("nothing is stored under its own name")
    whole = in_batches(embedder, codes)
    order = np.random.default_rng(1).permutation(len(codes))
    mixed = in_batches(embedder, codes[order])
    one = in_batches(embedder, codes[7:8])
    for name in embedder.spec.outputs:
        np.testing.assert_array_equal(mixed[name], whole[name][order])
        np.testing.assert_array_equal(one[name][0], whole[name][7])


def test_the_same_settings_have_the_same_identity_and_others_another(
    embedder, settings_of, request
):
    kind = request.node.callspec.params["embedder"]
    again = make_embedder(kind, settings_of.get(kind))
    assert again.spec.identity_digest() == embedder.spec.identity_digest()
    identity = embedder.spec.identity()
    assert kind.startswith(identity["type"])
    assert {"dtype", "rc_rule", "iupac_rule", "pooling", "pretraining_species"} <= set(identity)


def test_identities_follow_the_settings():
    assert Kmer(k=[1, 2]).spec.identity_digest() != Kmer().spec.identity_digest()
    assert Kmer(canonical=True).spec.identity_digest() != Kmer().spec.identity_digest()


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet=LETTERS, min_size=0, max_size=40), st.integers(1, 4))
def test_kmer_frequencies_equal_counted_words(text, k):
    embedder = Kmer(k=k)
    got = embedder.embed(encode(text)[None] if text else np.zeros((1, 0), np.uint8))["embedding"][0]
    words = [text[i : i + k] for i in range(len(text) - k + 1)]
    counted = Counter(w for w in words if set(w) <= set("ACGT"))
    total = max(sum(counted.values()), 1)
    want = [counted[name] / total for name in embedder.channels]
    np.testing.assert_allclose(got, want, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.text(alphabet="ACGTN", min_size=5, max_size=60))
def test_canonical_kmers_do_not_see_the_strand(text):
    embedder = Kmer(k=(1, 2, 3), canonical=True)
    forward = embedder.embed(encode(text)[None])["embedding"]
    backward = embedder.embed(reverse_complement(encode(text))[None])["embedding"]
    np.testing.assert_allclose(forward, backward, rtol=1e-6)


def test_canonical_kmers_have_the_published_number():
    # (4^k + 4^(k/2)) / 2 for even k, 4^k / 2 for odd k: palindromes pair with themselves
    assert [len(Kmer(k=k, canonical=True).channels) for k in (1, 2, 3, 4)] == [2, 10, 32, 136]
    names = Kmer(k=2).channels
    assert names == sorted(names)
    assert all(a < b for a, b in pairwise(names))


@pytest.mark.parametrize("k", [0, 9, (), (1, 0), 2.5])
def test_impossible_word_lengths_are_refused(k):
    with pytest.raises((InputError, TypeError), match=r"k = |iterable"):
        Kmer(k=k)


def test_unknown_types_and_settings_name_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'kmer'"):
        embedder_class("kmers")
    with pytest.raises(InputError, match="Did you mean 'canonical'"):
        make_embedder("kmer", {"type": "kmer", "cannonical": True})


def test_an_embedder_installed_meanwhile_is_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UnknownNameError):
        embedder_class("late")
    (tmp_path / "late.py").write_text("class Late: ...\n")
    info = tmp_path / "late-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: late\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[meristem.embedders]\nlate = late:Late\n")
    assert embedder_class("late").__name__ == "Late"


def test_random_is_the_same_on_every_load():
    pytest.importorskip("torch", reason="the random embedder needs torch")
    codes = _codes(4)
    first, second = make_embedder("random"), make_embedder("random")
    np.testing.assert_array_equal(first.embed(codes)["embedding"], second.embed(codes)["embedding"])
    other = make_embedder("random", {"type": "random", "seed": 1})
    assert not np.array_equal(other.embed(codes)["embedding"], first.embed(codes)["embedding"])
