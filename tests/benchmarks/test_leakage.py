"""The audit: overlaps and shared sequence, against all-pairs oracles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.inputs.genes import gene_frame
from benchmarks.runs.files import read_run
from benchmarks.runs.plans import RunOptions
from benchmarks.runs.progress import Progress
from benchmarks.runs.runner import run
from benchmarks.scores.audit_runs import audit_runs
from benchmarks.splits.artefact import make_split
from benchmarks.splits.leakage import CONTAINMENT, audit, without
from benchmarks.splits.overlap import Windows, declared_regions, gene_windows, overlap_counts
from benchmarks.splits.sketch import K, sketch, sketch_source
from featurestore.sequence.iupac import decode, reverse_complement
from learners.batch import ArraySource


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(1, 20), st.booleans()), min_size=2, max_size=40
    )
)
def test_overlap_counts_are_those_of_all_pairs(intervals):
    start = np.array([s for s, _, _ in intervals], np.int64)
    end = start + np.array([length for _, length, _ in intervals], np.int64)
    test = np.flatnonzero([t for _, _, t in intervals]).astype(np.int64)
    others = np.flatnonzero([not t for _, _, t in intervals]).astype(np.int64)
    gene = np.arange(len(intervals), dtype=np.int64)
    found = overlap_counts(Windows(gene, start, end, len(gene), 0), test, others)
    by_hand = [
        sum(start[i] < end[j] and start[j] < end[i] for j in others.tolist()) for i in test.tolist()
    ]
    assert found.tolist() == by_hand


def test_windows_follow_strand_and_anchor(fakes):
    store = fakes.make_store(30)
    genes = gene_frame(store, ["alpha"])
    windows = gene_windows(store, ["alpha"], genes)
    assert windows.unplaced == 0
    for i in range(30):
        up, down, tss = 60, 20, genes["tss"][i]
        first = (tss - up, tss + down) if genes["strand"][i] > 0 else (tss - down, tss + up)
        assert windows.end[i] - windows.start[i] == first[1] - first[0]
        tts = genes["tts"][i]
        second = (tts - 20, tts + 60) if genes["strand"][i] > 0 else (tts - 60, tts + 20)
        # Distance between a gene's two windows does not depend on the axis they are laid on.
        assert windows.start[30 + i] - windows.start[i] == second[0] - first[0]


def test_windows_on_different_contigs_or_species_never_meet(fakes):
    store = fakes.make_store(4, species=2, contigs=4)
    for name in ("alpha", "beta"):
        store.genes(name).tss[:] = 500
        store.genes(name).tts[:] = 600
    genes = gene_frame(store, ["alpha", "beta"])
    windows = gene_windows(store, ["alpha", "beta"], genes)
    everyone = np.arange(8, dtype=np.int64)
    for i in range(8):
        one = np.array([i])
        assert overlap_counts(windows, one, np.delete(everyone, i)).tolist() == [0]


def test_unplaced_windows_are_counted(fakes):
    store = fakes.make_store(10)
    store.genes("alpha").tts[:3] = -1
    windows = gene_windows(store, ["alpha"], gene_frame(store, ["alpha"]))
    assert windows.unplaced == 3


def test_regions_may_be_declared_per_species(fakes):
    store = fakes.make_store(4)
    plain = declared_regions(store, "alpha")
    store.attrs["meristem"]["regions"] = {"alpha": fakes.REGIONS}
    assert declared_regions(store, "alpha") == plain
    store.attrs["meristem"]["regions"] = {
        one["name"]: {k: v for k, v in one.items() if k != "name"} for one in fakes.REGIONS
    }
    assert declared_regions(store, "alpha") == plain


def kmers(codes) -> set[str]:
    """Canonical 31-mers of one region the slow way, as text."""
    text = decode(codes)
    back = decode(reverse_complement(codes))
    found = set()
    for i in range(len(text) - K + 1):
        word = text[i : i + K]
        if set(word) <= set("ACGT"):
            other = back[len(text) - K - i : len(text) - i]
            found.add(min(word, other))
    return found


def test_sketch_keeps_canonical_kmers_without_ambiguous_bases():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (5, 2, 90)).astype(np.uint8)
    codes[0, 0, 40] = 4
    codes[1, 1, :] = 4
    codes[2] = reverse_complement(codes[3])[::-1]  # the same 31-mers, read from the other strand
    row, hashed = sketch(codes, 1)
    sizes = [len(set().union(*(kmers(region) for region in gene))) for gene in codes]
    assert np.bincount(row, minlength=5).tolist() == sizes
    sets = [set(hashed[row == i].tolist()) for i in range(5)]
    assert sets[2] == sets[3]
    assert not sets[0] & sets[4]


def test_containment_is_that_of_the_sets_of_kmers():
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 4, (20, 1, 200)).astype(np.uint8)
    codes[10:] = codes[:10]
    mutated = rng.random(codes[10:].shape) < 0.01
    codes[10:][mutated] = (codes[10:][mutated] + 1) % 4
    sketches = sketch_source([ArraySource(codes, kind="codes")], keep=200)
    first, second = np.arange(10), np.arange(10, 20)
    found = sketches.containment(second, first)
    pool = set().union(*(kmers(codes[i, 0]) for i in first))
    by_hand = [len(kmers(codes[i, 0]) & pool) / len(kmers(codes[i, 0])) for i in second]
    np.testing.assert_allclose(found, by_hand)


def test_sampled_containment_is_close_to_the_full_one():
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 4, (2, 1, 60_000)).astype(np.uint8)
    codes[1, 0, :30_000] = codes[0, 0, :30_000]
    sketches = sketch_source([ArraySource(codes, kind="codes")], keep=1000)
    (share,) = sketches.containment(np.array([1]), np.array([0]))
    assert share == pytest.approx(0.5, abs=0.06)  # binomial, 4 standard deviations


def test_audit_finds_what_was_planted(fakes):
    store = fakes.make_store(100)
    codes = store.feature_source("alpha", "onehot").values
    genes = gene_frame(store, ["alpha"])
    split = make_split(genes)
    fold = split.table.set_index("gene")["fold"].reindex(genes["gene"]).to_numpy()
    twin = int(np.flatnonzero(fold != fold[0])[-1])
    codes[twin] = codes[0]
    table = store.genes("alpha")
    table.tss[:] = np.arange(100) * 10_000 + 5_000
    table.tts[:] = table.tss + np.where(table.strand > 0, 300, -300)
    far = int(np.flatnonzero(fold != fold[1])[5])
    for array in (table.tss, table.strand, table.contig):
        array[far] = array[1]
    table.tts[far] = table.tss[far] + (2000 if table.strand[far] > 0 else -2000)
    report = audit(store, ["alpha"], gene_frame(store, ["alpha"]), split)
    assert report.tested == 100
    assert set(report.select("identity")["gene"]) == {"alpha0000", f"alpha{twin:04d}"}
    assert set(report.select("overlap")["gene"]) == {"alpha0001", f"alpha{far:04d}"}
    assert report.select("family").empty
    assert report.summary()["reasons"]["identity"]["without_overlap"] == 2
    assert report.summary()["containment"] == CONTAINMENT


def test_audit_without_sequence_says_so(fakes):
    store = fakes.make_store(40)
    del store.held["alpha"].sources["onehot"]
    genes = gene_frame(store, ["alpha"])
    report = audit(store, ["alpha"], genes, make_split(genes))
    assert report.concerned["identity"].isna().all()
    assert any("no onehot" in note for note in report.notes)


def test_runs_are_scored_with_and_without_the_genes_concerned(fakes, tmp_path):
    store = fakes.make_store(100)
    options = RunOptions(["bench_fakes:Linear"], out=tmp_path / "runs", bootstrap=10)
    (outcome,) = run(store, options, Progress(0))
    (row,) = audit_runs(store, [read_run(outcome.path)])
    again = read_run(outcome.path)
    assert again.run["audit"]["tested"] == 100
    store.digest = "another embedder has joined"
    assert not any("changed" in note for note in audit_runs(store, [again])[0]["notes"])
    store.content = "another genome"
    assert any("changed" in note for note in audit_runs(store, [again])[0]["notes"])
    scores = {(s["reason"], s["metric"]): s for s in row["scores"]}
    genes = gene_frame(store, ["alpha"])
    from benchmarks.splits.artefact import read_split

    split = read_split(outcome.path / "split.parquet")
    concerned = audit(store, ["alpha"], genes, split).select("overlap")
    left = without(again.predictions, concerned)
    assert set(left["gene"]) == set(again.predictions["gene"]) - set(concerned["gene"])
    y, p = left["y_true"], left["y_pred"]
    if len(left) > 2:
        assert scores["overlap", "pearson"]["without"] == pytest.approx(np.corrcoef(y, p)[0, 1])
    assert scores["family", "r2"]["without"] == scores["family", "r2"]["all"]
