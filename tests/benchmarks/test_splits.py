"""Splits: every gene tested once, families whole, the same whatever the order of the rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import PredefinedSplit

from benchmarks.inputs.genes import GENE_COLUMNS, gene_frame, with_families
from benchmarks.splits.artefact import AlignedSplit, make_split, read_split, write_split
from benchmarks.splits.files import load_split, split_from_file
from benchmarks.splits.leakage import gate
from featurestore.errors import InputError, InputFileNotFoundError, LeakageError


def frame(families, *, species=None, contigs=None, loci=None, folds=None) -> pd.DataFrame:
    n = len(families)
    table = pd.DataFrame(
        {
            "gene": [f"g{i:05d}" for i in range(n)],
            "species": species or ["alpha"] * n,
            "family": families,
            "locus": loci or [f"g{i:05d}" for i in range(n)],
            "contig": contigs or ["chr1"] * n,
            "strand": 1, "tss": 0, "tts": 0,
            "fold": folds or [""] * n,
        }
    )  # fmt: skip
    return with_families(table)


def straddling_by_hand(genes, aligned, fold) -> set[str]:
    """Families on more than one side, found pair by pair."""
    sides = aligned.sides(fold)
    rows = {"train": sides.train, "valid": sides.valid, "test": sides.test}
    found = set()
    for a in rows:
        for b in rows:
            if a < b:
                names = genes["family"]
                found |= {names[i] for i in rows[a]} & {names[j] for j in rows[b]}
    return found


family_lists = st.lists(
    st.integers(0, 14).map(lambda i: f"F{i}" if i else ""), min_size=30, max_size=90
)


@settings(max_examples=25, deadline=None)
@given(family_lists, st.integers(2, 5), st.integers(0, 3))
def test_each_gene_is_tested_once_and_families_stay_whole(families, count, seed):
    genes = frame(families)
    if genes["family"].nunique() < count:
        return
    split = make_split(genes, f"families-{count}fold", seeds=[seed])
    aligned = AlignedSplit(split, genes, seed)
    tested = []
    for fold in aligned.folds:
        sides = aligned.sides(fold)
        everything = np.concatenate([sides.train, sides.valid, sides.test])
        assert sorted(everything) == list(range(len(genes)))
        assert not straddling_by_hand(genes, aligned, fold)
        tested += sides.test.tolist()
    assert sorted(tested) == list(range(len(genes)))
    sizes = split.table.groupby("fold").size()
    assert sizes.max() - sizes.min() <= genes["family"].value_counts().max()
    assert not gate(split, genes).leaks


@settings(max_examples=20, deadline=None)
@given(family_lists, st.randoms(use_true_random=False))
def test_digest_and_sides_do_not_depend_on_the_order_of_rows(families, random):
    genes = frame(families)
    order = list(range(len(genes)))
    random.shuffle(order)
    other = genes.iloc[order].reset_index(drop=True)
    name = f"families-{min(3, genes['family'].nunique())}fold" if len(set(families)) > 2 else None
    if name is None:
        return
    one, two = (make_split(x, name, seeds=[1]) for x in (genes, other))
    assert one.digest == two.digest
    a, b = AlignedSplit(one, genes, 1), AlignedSplit(two, other, 1)
    for fold in a.folds:
        for side in ("train", "valid", "test"):
            left = set(genes["gene"].iloc[getattr(a.sides(fold), side)])
            right = set(other["gene"].iloc[getattr(b.sides(fold), side)])
            assert left == right


def test_folds_meet_the_definition_of_group_k_fold():
    """sklearn's iterator over our folds: test sets partition the rows, groups never meet."""
    rng = np.random.default_rng(0)
    genes = frame([f"F{i}" for i in rng.integers(0, 80, 500)])
    split = make_split(genes, seeds=[0])
    fold = split.table.set_index("gene")["fold"].reindex(genes["gene"]).to_numpy()
    seen = np.zeros(len(genes), int)
    for train, test in PredefinedSplit(fold).split():
        seen[test] += 1
        assert not set(genes["family"].iloc[train]) & set(genes["family"].iloc[test])
    assert (seen == 1).all()
    assert set(fold) == {0, 1, 2, 3, 4}


def test_validation_is_a_tenth_of_training_genes_in_whole_families():
    rng = np.random.default_rng(1)
    genes = frame([f"F{i}" for i in rng.integers(0, 400, 2000)])
    split = make_split(genes)
    aligned = AlignedSplit(split, genes, 0)
    largest = genes["family"].value_counts().max()
    chosen = []
    for fold in aligned.folds:
        sides = aligned.sides(fold)
        wanted = 0.1 * (len(sides.valid) + len(sides.train))
        assert wanted <= len(sides.valid) < wanted + largest
        chosen.append(frozenset(sides.valid.tolist()))
    assert len(set(chosen)) == 5


def test_seeds_give_other_folds_and_a_repeat_does_not_depend_on_the_others():
    genes = frame([f"F{i % 40}" for i in range(200)])
    both = make_split(genes, seeds=[0, 1]).table
    first, second = (both[both["repeat"] == r]["fold"].to_numpy() for r in (0, 1))
    assert (first != second).any()
    alone = make_split(genes, seeds=[1]).table
    np.testing.assert_array_equal(alone["fold"].to_numpy(), second)


def test_genes_without_family_are_singletons_and_records_of_a_locus_stay_together():
    genes = frame(["", "", "", "F1", "", "F2"], loci=["L1", "L1", "L2", "L3", "L3", "L6"])
    assert genes["family"].tolist() == ["alpha:L1", "alpha:L1", "alpha:L2", "F1", "F1", "F2"]
    note = next(n for n in make_split(genes, "families-2fold").notes if "no family" in n)
    assert "4 of 6" in note


def test_families_that_share_a_locus_become_one():
    genes = frame(["F1", "F2", "F2", "F9"], loci=["L1", "L1", "L2", "L3"])
    assert genes["family"].tolist() == ["F1", "F1", "F1", "F9"]


def test_leave_one_species_out_drops_families_under_test_from_training():
    genes = frame(["A", "B", "C", "A", "D", "E"] * 5, species=(["alpha"] * 3 + ["beta"] * 3) * 5)
    genes["gene"] = [f"g{i}" for i in range(30)]
    split = make_split(genes, "leave-one-species-out")
    assert split.recipe["exclude_test_families"] is True
    assert split.recipe["fold_names"] == {"0": "alpha", "1": "beta"}
    aligned = AlignedSplit(split, genes, 0)
    sides = aligned.sides(0)
    assert set(genes["species"].iloc[sides.test]) == {"alpha"}
    learned = np.concatenate([sides.train, sides.valid])
    assert set(genes["family"].iloc[learned]) == {"D", "E"}
    assert set(genes["family"].iloc[sides.excluded]) == {"A"}
    assert not gate(split, genes).leaks
    kept = make_split(genes, "leave-one-species-out", keep_test_families=True)
    with pytest.raises(LeakageError, match="family A"):
        gate(kept, genes)


def test_chromosomes_are_folds_and_small_contigs_stand_together():
    contigs = [f"chr{1 + i // 100}" for i in range(300)] + ["scaffold_1", "scaffold_2"]
    genes = frame([f"F{i}" for i in range(302)], contigs=contigs)
    split = make_split(genes, "leave-one-chromosome-out")
    assert sorted(split.recipe["fold_names"].values()) == [
        "alpha/chr1", "alpha/chr2", "alpha/chr3", "alpha/small contigs",
    ]  # fmt: skip
    ragged = frame(["A"] * 200, contigs=[f"c{i}" for i in range(200)])
    with pytest.raises(InputError, match="not chromosomes"):
        make_split(ragged, "leave-one-chromosome-out")


@pytest.mark.parametrize("given", [True, False])
def test_empres_rotates_valid_and_test(given):
    groups = [str(1 + i % 5) for i in range(100)]
    genes = frame([f"F{i % 20}" for i in range(100)], folds=groups if given else None)
    split = make_split(genes, "empres")
    aligned = AlignedSplit(split, genes, 0)
    group = split.table.set_index("gene")["fold"].reindex(genes["gene"]).to_numpy()
    if given:
        assert group.tolist() == [int(g) for g in groups]
    pairs = set()
    for fold in aligned.folds:
        sides = aligned.sides(fold)
        (valid,), (test,) = set(group[sides.valid]), set(group[sides.test])
        pairs.add((int(valid), int(test)))
        assert len(set(group[sides.train])) == 3
    assert pairs == {(1, 2), (2, 3), (3, 4), (4, 5), (5, 1)}
    assert not gate(split, genes).leaks


def test_random_folds_leak_and_the_gate_says_which_families():
    genes = frame([f"F{i % 10}" for i in range(100)])
    split = make_split(genes, "random-5fold")
    with pytest.raises(LeakageError, match=r"10 gene families .* 100 genes") as caught:
        gate(split, genes)
    assert caught.value.exit_code == 4
    report = gate(split, genes, allow=True)
    aligned = AlignedSplit(split, genes, 0)
    by_hand = set().union(*(straddling_by_hand(genes, aligned, f) for f in aligned.folds))
    assert set(report.families) == by_hand


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2)), min_size=12, max_size=60))
def test_gate_finds_exactly_the_families_found_by_hand(pairs):
    genes = frame([f"F{f}" for f, _ in pairs])
    if len({fold for _, fold in pairs}) < 2:
        return
    from benchmarks.splits.artefact import VALIDATION, Split

    table = genes[["gene", "species", "family"]].assign(repeat=0, fold=[f for _, f in pairs])
    split = Split(table, {"name": "planted", "validation": VALIDATION})
    aligned = AlignedSplit(split, genes, 0)
    by_hand = set().union(*(straddling_by_hand(genes, aligned, f) for f in aligned.folds))
    assert set(gate(split, genes, allow=True).families) == by_hand


def test_artefact_round_trip_and_tampering(tmp_path):
    genes = frame([f"F{i % 9}" for i in range(60)])
    split = make_split(genes, "families-3fold", seeds=[0, 1])
    path = tmp_path / "split.parquet"
    write_split(split, path)
    back = read_split(path)
    assert back.digest == split.digest
    assert back.recipe == split.recipe
    pd.testing.assert_frame_equal(back.table, split.table)
    assert list(pd.read_parquet(path).columns) == ["gene", "species", "family", "repeat", "fold"]
    changed = back.table.copy()
    changed.loc[0, "fold"] = (changed.loc[0, "fold"] + 1) % 3
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    pq.write_table(pa.Table.from_pandas(changed, schema=schema).cast(schema), path)
    with pytest.raises(InputError, match="not those it was written with"):
        read_split(path)


def test_user_file_with_family_column_cannot_vouch_for_itself(tmp_path):
    genes = frame(["A", "A", "B", "C", "D", "E"])
    path = tmp_path / "mine.tsv"
    rows = zip(genes["gene"], [0, 1, 0, 1, 0, 1], "UVWXYZ", strict=True)
    path.write_text("gene\tfold\tfamily\n" + "".join(f"{g}\t{f}\t{n}\n" for g, f, n in rows))
    with pytest.raises(LeakageError, match="family A"):
        gate(split_from_file(path, genes), genes)


def test_user_file_with_roles(tmp_path):
    genes = frame([f"F{i}" for i in range(6)])
    path = tmp_path / "fixed.csv"
    roles = ["train", "train", "train", "valid", "test", "test"]
    path.write_text(
        "gene,fold,role\n"
        + "".join(f"{g},hold-out,{r}\n" for g, r in zip(genes["gene"], roles, strict=True))
    )
    split = load_split(f"file:{path}", genes)
    assert split.recipe["fold_names"] == {"0": "hold-out"}
    sides = AlignedSplit(split, genes, 0).sides(0)
    assert [s.tolist() for s in (sides.train, sides.valid, sides.test)] == [
        [0, 1, 2], [3], [4, 5],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("gene,part\ng00000,1\n", "no column fold"),
        ("gene,fold\nother,1\n", "none of its genes"),
        ("gene,fold\ng00000,0\ng00000,1\n", "tested twice"),
        ("gene,fold,role\ng00000,0,teach\n", "role must be"),
        ("gene,fold,repeat\ng00000,0,first\n", "whole number"),
    ],
)
def test_bad_user_files_are_named(tmp_path, text, match):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=match):
        split_from_file(path, frame(["A", "B", "C"]))


def test_user_file_that_meets_in_part_says_so(tmp_path):
    genes = frame(["A", "B", "C", "D"])
    path = tmp_path / "part.csv"
    path.write_text("gene,fold\ng00000,0\ng00001,1\nstranger,1\n")
    notes = " ".join(split_from_file(path, genes).notes)
    assert "1 genes are not in the store (stranger" in notes
    assert "2 genes of the store are in no fold" in notes


def test_unknown_names():
    genes = frame(["A", "B"])
    with pytest.raises(InputError, match="leave-one-species-out"):
        make_split(genes, "leave-one-specie-out")
    with pytest.raises(InputError, match="at least 2 folds"):
        make_split(genes, "families-1fold")
    with pytest.raises(InputError, match="at least 5 families"):
        make_split(genes)
    with pytest.raises(InputFileNotFoundError):
        load_split("file:nowhere.tsv", genes)


def test_repeat_for_seed():
    genes = frame([f"F{i}" for i in range(10)])
    two = make_split(genes, "families-2fold", seeds=[0, 1])
    assert [two.repeat_for(s) for s in (0, 1)] == [0, 1]
    with pytest.raises(InputError, match="none for seed 2"):
        two.repeat_for(2)
    assert make_split(genes, "families-2fold", seeds=[4]).repeat_for(0) == 4


def test_gene_frame_of_a_store(fakes):
    store = fakes.make_store(40, species=2, families=7)
    genes = gene_frame(store, ["alpha", "beta"])
    assert list(genes.columns) == list(GENE_COLUMNS)
    assert len(genes) == 80
    assert genes["gene"].iloc[40] == "beta0000"


def test_split_of_50000_genes_is_quick():
    import time

    rng = np.random.default_rng(0)
    genes = frame([f"F{i}" for i in rng.integers(0, 15000, 50_000)])
    start = time.perf_counter()
    split = make_split(genes)
    gate(split, genes)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("name", ["families-5fold", "leave-one-species-out"])
def test_validation_is_a_tenth_of_the_labelled_genes(name):
    rng = np.random.default_rng(1)
    species = np.repeat(["a", "b", "c"], 400)
    family = [f"{one}{i}" for one, i in zip(species, rng.integers(0, 100, 1200), strict=True)]
    genes = frame(family, species=species.tolist())
    labelled = rng.random(1200) < np.where(species == "c", 0.0, 0.2)
    split = make_split(genes, name)
    aligned = AlignedSplit(split, genes, 0, labelled)
    for fold in aligned.folds:
        sides = aligned.sides(fold)
        assert not straddling_by_hand(genes, aligned, fold)
        valid, train = (labelled[rows].sum() for rows in (sides.valid, sides.train))
        largest = genes["family"][labelled].value_counts().max()
        assert 0.1 * (train + valid) <= valid <= 0.1 * (train + valid) + largest
    # The artefact knows no labels, and who is under test does not hang on them.
    plain = AlignedSplit(split, genes, 0)
    for fold in aligned.folds:
        np.testing.assert_array_equal(aligned.sides(fold).test, plain.sides(fold).test)
