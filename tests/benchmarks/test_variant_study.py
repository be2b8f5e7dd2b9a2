"""The study of intervals, a few seeds of it; all of it at night."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.variant_effects import study
from featurestore.sample.ceiling import mutant_differences
from featurestore.sample.settings import SampleSettings
from featurestore.sample.simulate import simulate

SMALL = {"genes": 60, "lines": 8}


@pytest.fixture(scope="module")
def rows():
    found = []
    for seed in range(6):
        found += study.run_seed(SampleSettings(seed=seed, **SMALL), permutations=99)
    return pd.DataFrame(found)


def test_the_oracle_has_slope_one_and_shuffled_labels_none(rows):
    for name, truth in (("oracle", 1.0), ("shuffled", 0.0)):
        part = rows[rows["learner"] == name]
        assert (part["truth"] == truth).all()
        # One seed in twenty may miss; four in six do not.
        assert part["holds_given"].sum() >= 4
        away = (part["beta"] - truth) / part["se_given"]
        assert abs(away.mean()) < 3 / np.sqrt(len(part))
    oracle, shuffled = (rows[rows["learner"] == n] for n in ("oracle", "shuffled"))
    assert (oracle["null_p"] <= 0.01).all()
    assert (oracle["partial_r2"] > 10 * shuffled["partial_r2"].to_numpy()).all()


def test_a_learner_that_saw_the_grammar_finds_the_slope_of_the_truth(rows):
    for name in ("grammar", "fitted"):
        part = rows[rows["learner"] == name]
        assert part["holds_given"].sum() >= 4
        assert np.isfinite(part["truth"]).all()
    summary = study.summarise(rows).set_index("learner")
    assert list(summary.index) == list(study.LEARNERS)
    assert (summary["seeds"] == 6).all()


def test_the_world_of_a_seed_is_that_of_the_simulator():
    """Observed and true differences, and the grammar on haplotypes, by the simulator's own account."""
    settings = SampleSettings(seed=4, **SMALL)
    one = study.world(settings)
    _, _, results = simulate(settings)
    result = results[0][1]
    true, observed = mutant_differences(result)
    assert one.pairs["delta_obs"].to_numpy() == pytest.approx(observed, abs=1e-9)
    assert one.true == pytest.approx(true)
    heterozygous = (one.sides == -1).any(axis=1)
    assert heterozygous.any()
    assert not heterozygous.all()
    # Both know the same grammar; the hidden effects of genes and the floor of log10(1 + TPM) part them.
    found = stats.spearmanr(study.grammar(one, 0), true).statistic
    assert found > 0.98
    carried = {(h.line, h.gene) for h in result.mutants.haplotypes}
    assert len(carried) == len(one.pairs)


def test_kmers_are_counted_by_bin():
    codes = np.array([[0, 1, 2, 3] * 100, [0, 0, 4, 1] + [2] * 396], np.uint8)
    counts = study.kmers(codes, 2).reshape(2, 2, 16)
    text = "".join("ACGT"[c] for c in codes[0])
    for word in range(16):
        letters = "ACGT"[word // 4] + "ACGT"[word % 4]
        for number, (low, high) in enumerate([(0, 250), (250, 399)]):
            expected = sum(text[i : i + 2] == letters for i in range(low, high))
            assert counts[0, number, word] == expected
    assert counts[1].sum() == 399 - 2  # two words hold the N


@pytest.mark.nightly
@pytest.mark.parametrize("line_sd", [0.0, 0.3])
def test_intervals_hold_in_ninety_of_a_hundred_seeds(line_sd):
    found = []
    for seed in range(100):
        found += study.run_seed(
            SampleSettings(seed=seed, genes=300, line_sd=line_sd), permutations=0
        )
    held = pd.DataFrame(found).groupby("learner")["holds_given"].sum()
    assert (held >= 90).all(), held.to_dict()
