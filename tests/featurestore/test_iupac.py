from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featurestore.sequence.iupac import (
    LETTERS,
    UNKNOWN,
    decode,
    encode,
    one_hot,
    reverse_complement,
)
from tests.oracles import windows as oracle

sequences = st.text(alphabet=LETTERS, max_size=60)


def test_all_fifteen_codes_complement_as_the_nomenclature_prints():
    for letter in LETTERS:
        assert decode(reverse_complement(encode(letter))) == oracle.PAIR[letter]


@given(sequences)
def test_reverse_complement_is_the_oracles_and_its_own_inverse(text):
    code = encode(text)
    assert decode(reverse_complement(code)) == oracle.reverse_complement(text)
    assert decode(reverse_complement(reverse_complement(code))) == text


@given(sequences)
def test_lower_case_means_the_same_bases(text):
    np.testing.assert_array_equal(encode(text.lower()), encode(text))


def test_other_letters_are_marked_not_guessed():
    np.testing.assert_array_equal(encode("A-E*") == UNKNOWN, [False, True, True, True])
    assert decode(encode("u")) == "T"


@given(sequences)
def test_fractional_one_hot_sums_to_one_and_reverses_with_the_strand(text):
    hot = one_hot(encode(text))
    np.testing.assert_allclose(hot.sum(axis=-1), 1, rtol=1e-6)
    # complementing exchanges A with T and C with G: the channels reversed
    np.testing.assert_array_equal(one_hot(reverse_complement(encode(text))), hot[::-1, ::-1])


def test_one_hot_of_ambiguous_codes():
    expected = {"R": [0.5, 0, 0.5, 0], "N": [0.25] * 4, "B": [0, 1 / 3, 1 / 3, 1 / 3]}
    for letter, values in expected.items():
        np.testing.assert_allclose(one_hot(encode(letter))[0], values, rtol=1e-6)
