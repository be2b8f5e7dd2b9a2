"""Several genotypes: rows, what goes along of the others, streaming, completed tables."""

from __future__ import annotations

import sys
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import featurestore
from benchmarks.cli import bench
from benchmarks.imputation import genotypes as lazy
from benchmarks.imputation import problem as problems
from benchmarks.runs.files import read_run
from benchmarks.runs.plans import RunOptions
from benchmarks.runs.progress import Progress
from benchmarks.runs.runner import plan_runs, run
from featurestore.store.verify import verify
from tests.benchmarks.conftest import FAKES
from tests.builders.tables import build_table, simulated_table

FAKE = "imputing_fakes:TissueMean"
KINDS = ("b73", "mo17", "w22")
TISSUES = ("root", "leaf", "seed", "stem")


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Values (gene, genotype, tissue) in log2(1 + TPM) and a store of them; samples are shuffled."""
    folder = tmp_path_factory.mktemp("genotypes")
    names, contig, tss, strand, log = simulated_table(60, TISSUES)
    rng = np.random.default_rng(8)
    value = np.maximum(log[:, None] + rng.normal(0, 0.4, (60, 3, 4)), 0)
    value[rng.random(value.shape) < 0.1] = np.nan
    value[11, 1] = np.nan
    pairs = [(g, t) for g in range(3) for t in range(4)]
    order = rng.permutation(len(pairs))
    columns = [f"s{i}" for i in range(len(pairs))]
    chosen = [pairs[i] for i in order]
    samples = [["sample", "tissue", "genotype"]]
    samples += [[c, TISSUES[t], KINDS[g]] for c, (g, t) in zip(columns, chosen, strict=True)]
    tpm = np.stack([2 ** value[:, g, t] - 1 for g, t in chosen], axis=1)
    store = build_table(folder, names, contig, tss, strand, tpm, columns, samples=samples)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAKES))
        yield folder, store, names, value
        sys.modules.pop("imputing_fakes", None)


def options(out, *masks):
    return RunOptions([FAKE], task="imputation", masks=masks, out=out, bootstrap=0)


def as_given(value, problem):
    """The values with genotypes and tissues in the order of the problem."""
    kinds = [KINDS.index(name) for name in problem.values.genotypes]
    tissues = [TISSUES.index(name) for name in problem.tissues]
    return value[:, kinds][:, :, tissues]


def test_rows_are_read_as_they_are_and_the_others_go_along(several, tmp_path, monkeypatch):
    import imputing_fakes

    _, store, names, value = several
    monkeypatch.setattr(lazy, "GENES_AT_ONCE", 7)  # pieces that genes of a fold straddle
    imputing_fakes.TissueMean.fits.clear()
    (outcome,) = run(store, options(tmp_path, "entries-20", "half-tissues", "whole-profile"),
                     Progress(0, StringIO()))  # fmt: skip
    assert outcome.state == "ok", outcome.error
    (plan,) = plan_runs(store, options(tmp_path, "entries-20"))
    problem = plan.folding.problem
    truth = as_given(value, problem)
    place = {name: i for i, name in enumerate(store.genes("simulated_plant").gene.tolist())}
    shuffled = [names.index(name) for name in place]
    truth = truth[shuffled]
    kinds = {name: i for i, name in enumerate(problem.values.genotypes)}
    for fit in imputing_fakes.TissueMean.fits:
        # What each batch shows, by gene and genotype, from its own block.
        for batch in (fit["train"], fit["valid"], *fit["tested"]):
            rows = np.array([place[g] for g in batch.gene])
            which = np.array([kinds[s] for s in batch.sample])
            shown = batch.blocks["profile"].read()
            visible = shown[:, 1] > 0
            here = truth[rows, which]
            assert shown[:, 0] == pytest.approx(np.where(visible, here, 0.0), abs=1e-3)
        for batch in (fit["train"], *fit["tested"]):
            other = batch.blocks["elsewhere"].read()
            seen = np.zeros(truth.shape, bool)
            rows = np.array([place[g] for g in batch.gene])
            which = np.array([kinds[s] for s in batch.sample])
            seen[rows, which] = batch.blocks["profile"].read()[:, 1] > 0
            if batch is not fit["train"] and len(batch) < truth[..., 0].size - 1:
                continue  # rows without a hidden entry are not there, yet shown to others
            total = (
                np.where(seen, truth, 0.0).sum(axis=1)[rows]
                - np.where(seen, truth, 0.0)[rows, which]
            )
            count = seen.sum(axis=1)[rows] - seen[rows, which]
            assert (other[:, 1] == (count > 0)).all()
            assert other[:, 0] == pytest.approx(
                np.where(count > 0, total / np.maximum(count, 1), 0.0), abs=1e-3
            )
    found = read_run(outcome.path).predictions
    known = np.isfinite(value).sum()
    counts = found.groupby("mask", observed=True).size()
    assert counts["whole-profile"] == known
    assert counts["entries-20"] == pytest.approx(0.2 * known, rel=0.25)
    assert not found.duplicated(["mask", "gene", "genotype", "sample"]).any()


def test_a_gene_under_test_is_hidden_in_every_genotype(several, tmp_path):
    import imputing_fakes

    _, store, *_ = several
    imputing_fakes.TissueMean.fits.clear()
    run(store, options(tmp_path, "whole-profile"), Progress(0, StringIO()))
    for fit in imputing_fakes.TissueMean.fits:
        for batch in fit["tested"]:
            assert not set(batch.gene) & set(fit["train"].gene)
            for name in ("profile", "elsewhere"):
                assert (batch.blocks[name].read()[:, 1] == 0).all()


def test_of_many_rows_each_gene_keeps_some(several, tmp_path, monkeypatch):
    _, store, *_ = several
    monkeypatch.setattr(problems, "MOST_ROWS", 70)
    (plan,) = plan_runs(store, options(tmp_path, "whole-profile"))
    rows = plan.folding.setting.all_rows
    assert len(rows) == 60
    assert sorted(rows.gene.tolist()) == list(range(60))
    assert len(set(rows.genotype.tolist())) == 3
    assert any("Of 180 rows 60 are learned from and tested" in note for note in plan.notes)


def test_tables_of_several_genotypes_are_completed_whole(several, tmp_path):
    folder, store, names, value = several
    (outcome,) = run(store, options(folder / "runs", "whole-profile", "entries-20"),
                     Progress(0, StringIO()))  # fmt: skip
    words = ["predict", "--learner", FAKE, "--model", outcome.path, folder / "store.zarr",
             "--out", tmp_path / "done.parquet", "--wide", tmp_path / "wide.tsv", "--into-store"]  # fmt: skip
    result = CliRunner().invoke(bench, list(map(str, words)))
    assert result.exit_code == 0, (result.output, result.exception)
    table = pd.read_parquet(tmp_path / "done.parquet")
    assert len(table) == value.size
    keyed = table.set_index(["gene", "genotype", "tissue"]).sort_index()
    wanted = pd.DataFrame(
        2 ** value.reshape(60, -1) - 1, names,
        pd.MultiIndex.from_product([KINDS, TISSUES], names=["genotype", "tissue"]),
    ).stack(["genotype", "tissue"], future_stack=True)  # fmt: skip
    wanted.index = wanted.index.set_names("gene", level=0)
    known = wanted.dropna()
    assert keyed["value"].loc[known.index].to_numpy() == pytest.approx(known.to_numpy(), abs=2e-4)
    assert (keyed["provenance"] == "measured").sum() == len(known)
    assert (keyed["provenance"] == "imputed").sum() == value.size - len(known)
    assert keyed["value"].notna().all()
    wide = pd.read_csv(tmp_path / "wide.tsv", sep="\t")
    assert len(wide) == 180
    assert wide.columns[:2].tolist() == ["gene", "genotype"]
    assert verify(folder / "store.zarr").findings == []
    group = featurestore.open(folder / "store.zarr")["simulated_plant"]["imputed"]
    assert group["value"].dims == ("gene", "tissue", "genotype")
    assert group["genotype"].values.tolist() == list(table["genotype"].unique())
    first = group["value"].sel(gene="g0005", tissue="leaf", genotype="mo17").item()
    assert first == pytest.approx(keyed.loc[("g0005", "mo17", "leaf"), "value"])
