"""The hybrid imputer: nothing of an entry reaches its own estimate, and what is planted is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featurestore.errors import InputError
from learners.base import Budget
from learners.batch import ArraySource, Block, FeatureBatch
from learners.imputation.annotation import Annotation
from learners.imputation.folds import inner_folds
from learners.imputation.gaussian import Gaussian
from learners.imputation.hybrid import Hybrid
from learners.imputation.neighbourhood import Places
from learners.imputation.partly import views_of
from learners.imputation.settings import HybridSettings
from learners.imputation.space import Space, Surroundings
from learners.imputation.table import known_of, profiles_of
from learners.imputation.tissue_features import TissueTable
from learners.imputation.variants import NoCNN, NoOrientation
from learners.simulated import MOTIF

SHORT = Budget(threads=1, rounds=60)


def batch(
    values: np.ndarray, seen: np.ndarray, place: np.ndarray, asked: str, **blocks: ArraySource
) -> FeatureBatch:
    n, tissues = values.shape
    rows = np.arange(n, dtype=np.int64)
    profile = ArraySource(
        np.stack([np.where(seen, values, 0.0), seen], axis=1).astype(np.float32), kind="profile"
    )
    profile.asked = frozenset({asked})  # type: ignore[attr-defined]
    names = np.array([f"gene_{i:05d}" for i in place[:, 1].astype(int)])
    sources = {"profile": profile, "place": ArraySource(place, kind="profile"), **blocks}
    return FeatureBatch(
        {name: Block(source, rows) for name, source in sources.items()},
        gene=names, species=np.full(n, "simulated"), family=names, targets=values,
        target_names=tuple(f"tissue_{i}" for i in range(tissues)),
    )  # fmt: skip


def split(
    values: np.ndarray, place: np.ndarray, asked: str = "none", **blocks: np.ndarray
) -> tuple[FeatureBatch, FeatureBatch, FeatureBatch]:
    """Three quarters to train on, an eighth each for validation and test, at random."""
    draw = np.random.default_rng(5).random(len(values))
    out = []
    for number, part in enumerate((draw < 0.75, (draw >= 0.75) & (draw < 0.875), draw >= 0.875)):
        seen = np.full(values[part].shape, number == 0)
        if number and asked == "some":
            seen[:, ::2] = True
        sources = {
            n: ArraySource(a[part], kind="codes" if n == "bases" else "profile")
            for n, a in blocks.items()
        }
        one = batch(values[part], seen, place[part], asked, **sources)
        out.append(one.with_mask(~seen if number else None))
    return out[0], out[1], out[2]


def line(n: int, rng: np.random.Generator, step: float = 20_000.0) -> np.ndarray:
    tss = np.arange(n) * step + rng.integers(0, 500, n)
    strand = rng.choice([-1.0, 1.0], n)
    return np.stack([np.zeros(n), tss, tss + 1000 * strand, strand, np.ones(n)], axis=1)


def r2(learner: Hybrid, test: FeatureBatch) -> float:
    wanted, mask = test.require_targets(), test.mask
    found = learner.predict(test.without_targets())
    assert mask is not None
    left = ((wanted - found)[mask] ** 2).sum()
    return float(1 - left / ((wanted[mask] - wanted[mask].mean()) ** 2).sum())


def test_tables_of_an_entry_do_not_know_its_value() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(5, 1, (60, 5)) + rng.normal(0, 2, (60, 1))
    place = line(60, rng)
    known = known_of(batch(values, np.ones_like(values, bool), place, "none"))
    other = values.copy()
    other[7, 2] += 3.0
    changed = known_of(batch(other, np.ones_like(values, bool), place, "none"))
    gaussian = Gaussian.of(known)
    one, two = (TissueTable.of(rows, gaussian) for rows in (known, changed))
    row = np.array([7])
    assert one.columns(2, row) == pytest.approx(two.columns(2, row), abs=1e-5, nan_ok=True)
    assert not np.allclose(one.columns(3, row), two.columns(3, row), equal_nan=True)
    settings = HybridSettings()
    space = Space.of(known, settings)
    first, second = (Surroundings(rows, space, settings) for rows in (known, changed))
    tables = first.table(known), second.table(changed)
    tokens = first.tokens(known, 6), second.tokens(changed, 6)
    assert np.array_equal(tables[0][7], tables[1][7])
    assert np.array_equal(tokens[0][7], tokens[1][7])
    assert not np.array_equal(tables[0][8], tables[1][8])  # of its neighbour it is known


def test_annotation_counts_genes_that_were_never_measured_and_not_the_gene_itself() -> None:
    rng = np.random.default_rng(8)
    place = line(80, rng, step=7000.0)
    values = rng.normal(size=(80, 3))
    whole = batch(values, np.ones_like(values, bool), place, "none")
    some = whole.take(np.arange(0, 80, 4))
    rows = Places.of(place[:10])
    # Read off the source: it knows all genes, the batch shows one of four.
    table = Annotation.of(some).table(rows)
    for row in range(10):
        far = np.sort(np.abs(place[:, 1] - place[row, 1]))[1:]
        assert table[row, 0] == pytest.approx(np.log10(far[0] + 100), rel=1e-5)
        within = [int((far < width).sum()) for width in (1e4, 3e4)]
        assert table[row, 5:7].tolist() == within
    alone = Annotation.of(batch(values[:1], np.ones((1, 3), bool), place[:1], "none"))
    assert (alone.table(rows.take(slice(0, 1)))[:, 5:9] == 0).all()


def test_inner_folds_keep_families_together_whatever_stands_beside() -> None:
    family = np.array([f"family_{i % 40}" for i in range(200)])
    whole = inner_folds(family, 3, seed=1)
    assert np.array_equal(whole[50:90], inner_folds(family[50:90], 3, seed=1))
    assert all(len(set(whole[family == name])) == 1 for name in set(family))
    assert set(whole) == {0, 1, 2}


def test_training_views_show_what_rows_to_come_show() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(50, 6))
    known = known_of(batch(values, np.ones_like(values, bool), line(50, rng), "some"))
    masks = np.array([[True, False, True, False, True, False], [True] * 3 + [False] * 3])
    view = views_of(known, masks, seed=0)
    assert {tuple(row) for row in view.shown.seen} == {tuple(row) for row in masks}
    assert np.array_equal(view.asked, ~view.shown.seen)
    assert (view.shown.value[~view.shown.seen] == 0).all()
    alone = views_of(known, None, seed=0)
    assert alone.asked.all()


def test_a_shared_promoter_is_found_by_strand_and_lost_without_it() -> None:
    # Pairs that start back to back share their profile; every other neighbour is as close.
    rng = np.random.default_rng(2)
    n = 1200
    place = line(n, rng, step=5000.0)
    place[:, 3] = np.where(np.arange(n) % 2 == 0, -1.0, 1.0)
    place[:, 1] = np.arange(n) * 5000.0
    score = np.repeat(rng.normal(0, 1, n // 2), 2)
    values = 4 + score[:, None] * np.linspace(1.2, 0.8, 4) + rng.normal(0, 0.3, (n, 4))
    train, valid, test = split(values, place)
    scores = {}
    for cls in (Hybrid, NoOrientation):
        learner = cls() if cls is NoOrientation else Hybrid(epochs=3)
        learner.fit(train, valid, seed=0, budget=SHORT)
        scores[cls] = r2(learner, test)
    # Of pairs an eighth has no partner left to learn from; a gene without strands has one of two.
    assert scores[Hybrid] > 0.4
    assert scores[Hybrid] > scores[NoOrientation] + 0.15


def test_a_motif_is_found_where_there_is_no_position() -> None:
    rng = np.random.default_rng(3)
    n = 700
    count = rng.integers(0, 5, n)
    codes = rng.integers(0, 4, (n, 1, 100)).astype(np.uint8)
    for gene, wanted in enumerate(count):
        for slot in rng.choice(6, wanted, replace=False):
            codes[gene, 0, slot * 16 : slot * 16 + len(MOTIF)] = MOTIF
    place = np.zeros((n, 5))
    place[:, 1] = np.arange(n)
    values = 3 + count[:, None] * np.array([1.0, -0.5, 0.8]) + rng.normal(0, 0.3, (n, 3))
    train, valid, test = split(values, place, bases=codes)
    learner = Hybrid(epochs=40, batch_size=32)
    learner.fit(train, valid, seed=0, budget=Budget(threads=1))
    assert r2(learner, test) > 0.5
    without = NoCNN()
    without.fit(train, valid, seed=0, budget=SHORT)
    assert without.predict(test.without_targets()).std(axis=0).max() < 0.05


def test_what_is_bent_between_tissues_is_learned_beyond_the_gaussian() -> None:
    rng = np.random.default_rng(4)
    n = 1500
    shared = rng.normal(size=n)
    values = np.stack([shared, shared**2, shared, np.abs(shared)], axis=1) + 3
    values += rng.normal(0, 0.1, values.shape)
    train, valid, test = split(values, line(n, rng), asked="some")
    learner = Hybrid(epochs=2)
    learner.fit(train, valid, seed=0, budget=Budget(threads=1, rounds=120))
    rows = profiles_of(test)
    given = Gaussian.of(known_of(train)).given(rows)[0]
    mask = test.mask
    found = learner.predict(test.without_targets())
    error = [(((one - values_of(test)) ** 2)[mask]).mean() for one in (found, given)]
    assert error[0] < 0.2 * error[1]
    assert learner.held_out is not None
    assert learner.held_out.shape == values_of(valid).shape


def values_of(batch: FeatureBatch) -> np.ndarray:
    return batch.require_targets()


def test_other_genotypes_of_the_gene_are_where_it_starts_from(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    genes, genotypes, tissues = 150, 3, 4
    mean = rng.normal(5, 2, (genes, tissues))
    values = np.repeat(mean, genotypes, axis=0) + rng.normal(0, 0.2, (genes * genotypes, tissues))
    place = np.repeat(line(genes, rng), genotypes, axis=0)
    others = values.reshape(genes, genotypes, tissues)
    elsewhere = (others.sum(axis=1, keepdims=True) - others) / (genotypes - 1)
    elsewhere = elsewhere.reshape(values.shape)
    block = np.stack([elsewhere, np.ones_like(elsewhere)], axis=1).astype(np.float32)
    sample = np.tile(np.array(["a", "b", "c"]), genes)
    draw = np.repeat(rng.random(genes), genotypes)
    parts = []
    for number, part in enumerate((draw < 0.7, (draw >= 0.7) & (draw < 0.85), draw >= 0.85)):
        seen = np.full(values[part].shape, number == 0)
        source = ArraySource(block[part], kind="profile")
        one = batch(values[part], seen, place[part], "none", elsewhere=source)
        parts.append(replace(one, sample=sample[part], mask=np.ones_like(seen)))
    learner = Hybrid(epochs=2)
    learner.fit(parts[0], parts[1], seed=0, budget=SHORT)
    assert r2(learner, parts[2]) > 0.95
    assert len(learner.references) == len(set(parts[0].gene) | set(parts[1].gene))
    learner.save(tmp_path)
    again = Hybrid.load(tmp_path)
    bare = parts[2].without_targets()
    assert np.array_equal(learner.predict(bare), again.predict(bare))


def test_rows_that_no_part_was_fitted_for_are_told() -> None:
    rng = np.random.default_rng(7)
    values = rng.normal(5, 1, (300, 4)) + rng.normal(0, 1, (300, 1))
    train, valid, test = split(values, line(300, rng), asked="some")
    learner = Hybrid(epochs=1)
    learner.fit(train, valid, seed=0, budget=Budget(threads=1, rounds=5))
    nothing = batch(values[:9], np.zeros((9, 4), bool), line(9, rng), "some").without_targets()
    assert learner.predict(nothing) == pytest.approx(
        np.tile(learner.space.gaussian.mean, (9, 1)), abs=1e-6
    )
    assert "9 rows show nothing" in learner.notes[0]
    assert np.isfinite(learner.predict(test.without_targets())).all()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="all switched off"):
        Hybrid(cnn=False, transformer=False, xgboost=False)
    with pytest.raises(InputError, match="folds 1"):
        Hybrid(folds=1)
    with pytest.raises(InputError, match="width 0"):
        Hybrid(width=0)


def test_where_whole_chromosomes_are_missing_neighbours_next_door_do_not_mislead() -> None:
    rng = np.random.default_rng(12)
    contigs, genes = 10, 80
    place = np.concatenate([line(genes, rng) for _ in range(contigs)])
    place[:, 0] = np.repeat(np.arange(contigs), genes)
    place[:, 1:3] += place[:, :1] * 1e8  # names go by the TSS
    # Neighbours are alike, level after level, so that inside a chromosome they tell nearly all.
    level = rng.normal(0, 2, (contigs * genes // 8, 1)).repeat(8, axis=0)
    values = 5.0 + level + rng.normal(0, 0.3, (contigs * genes, 4))
    parts = [place[:, 0] < 7, place[:, 0] == 7, place[:, 0] > 7]
    train, valid, test = (
        batch(values[part], np.full(values[part].shape, number == 0), place[part], "none")
        for number, part in enumerate(parts)
    )
    learner = Hybrid(epochs=2)
    learner.fit(train, valid, seed=0, budget=SHORT)
    found = learner.predict(test.without_targets())
    mean = values[~parts[2]].mean(axis=0)
    error, plain = (((values[parts[2]] - one) ** 2).mean() for one in (found, mean))
    assert error < 1.05 * plain
    assert found.std(axis=0).max() < 0.3 * values.std()
