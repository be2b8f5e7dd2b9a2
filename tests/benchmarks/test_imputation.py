"""Task ``imputation``: invariants of masks, what learners are handed, runs resumed and refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from io import StringIO

import numpy as np
import pandas as pd
import pytest

from benchmarks.imputation.designs import by_chromosome
from benchmarks.imputation.draws import keys_of
from benchmarks.imputation.places import Places
from benchmarks.runs.files import read_run
from benchmarks.runs.plans import RunOptions
from benchmarks.runs.progress import Progress
from benchmarks.runs.runner import plan_runs, run
from featurestore.errors import InputError, LeakageError
from featurestore.inputs.problems import DataSetError
from tests.benchmarks.conftest import FAKES
from tests.builders.tables import TISSUES, build_table, simulated_table

FAKE = "imputing_fakes:TissueMean"


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.syspath_prepend(str(FAKES))
    import imputing_fakes

    imputing_fakes.TissueMean.fits.clear()
    yield imputing_fakes
    sys.modules.pop("imputing_fakes")


@pytest.fixture(scope="module")
def table():
    names, contig, tss, strand, log = simulated_table()
    log = log.copy()
    log[7, 2] = log[30, 5] = np.nan
    return names, contig, tss, strand, log


@pytest.fixture(scope="module")
def store(tmp_path_factory, table):
    names, contig, tss, strand, log = table
    return build_table(tmp_path_factory.mktemp("table"), names, contig, tss, strand, 2**log - 1)


def options(out, *masks, learners=(FAKE,), **more):
    return RunOptions(list(learners), task="imputation", masks=masks, out=out, bootstrap=0, **more)


def done(store, opts):
    return run(store, opts, Progress(0, StringIO()))


def result_of(store, opts):
    (outcome,) = done(store, opts)
    assert outcome.state == "ok", outcome.error
    return read_run(outcome.path)


@pytest.fixture(scope="module")
def whole_run(store, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAKES))
        result = result_of(store, options(tmp_path_factory.mktemp("whole")))
        sys.modules.pop("imputing_fakes")
        return result


def test_every_mask_hides_what_its_name_says(whole_run, table):
    names, _, _, _, log = table
    known = int(np.isfinite(log).sum())
    found = whole_run.predictions
    hidden = dict(list(found.groupby("mask", observed=True)))
    assert set(hidden) == {
        "entries-20", "half-tissues", "tissue-group", "whole-profile", "block", "chromosome",
        "low-expression",
    }  # fmt: skip
    for part in hidden.values():  # nothing is asked twice
        assert not part.duplicated(["gene", "sample"]).any()
    assert len(hidden["entries-20"]) == round(0.2 * known)
    for mask in ("whole-profile", "block", "chromosome"):
        assert len(hidden[mask]) == known
    per_gene = hidden["half-tissues"].groupby("gene", observed=True).size()
    count = pd.Series(np.isfinite(log).sum(axis=1), index=names)
    assert (per_gene == (count // 2)[per_gene.index]).all()
    assert len(per_gene) == len(names)
    lowest = pd.Series(np.nanmean(log, axis=1), index=names).nsmallest(24).index
    assert set(hidden["low-expression"]["gene"]) == set(lowest)
    # A group: the same tissues for the genes of a fold that share one, and never all of them.
    group = hidden["tissue-group"].groupby(["fold", "gene"], observed=True)["sample"].agg(frozenset)
    assert all(0 < len(one) < len(TISSUES) for one in group)
    for _, sets in group.groupby("fold"):
        full = {one for one in sets if len(one) == max(map(len, sets))}
        distinct = set(sets)
        assert all(any(one <= other for other in full) or one & other == set()
                   for one in distinct for other in full)  # fmt: skip


def test_the_truth_is_the_table_in_log2(whole_run, table):
    names, _, _, _, log = table
    wanted = pd.DataFrame(log, names, list(TISSUES)).stack()
    part = whole_run.predictions
    assert part["y_true"].to_numpy() == pytest.approx(
        wanted[pd.MultiIndex.from_frame(part[["gene", "sample"]].astype(str))].to_numpy(), abs=2e-4
    )
    assert whole_run.identity["unit"] == "log2(1+TPM)"


def test_families_and_stretches_stay_together(whole_run, table):
    names = table[0]
    for mask in ("whole-profile", "half-tissues", "tissue-group"):
        part = whole_run.predictions[whole_run.predictions["mask"] == mask]
        assert part.groupby("family", observed=True)["fold"].nunique().max() == 1
    fold = (
        whole_run.predictions.query("mask == 'block'")
        .groupby("gene", observed=True)["fold"]
        .first()
    )
    in_order = fold[names].to_numpy()
    for number in range(len(names) // 10):
        assert len(set(in_order[10 * number : 10 * number + 10])) == 1
    assert set(in_order) == {2000, 2001, 2002, 2003, 2004}
    by_contig = whole_run.predictions.query("mask == 'chromosome'")
    assert by_contig.groupby("contig", observed=True)["fold"].nunique().max() == 1


def test_no_learner_sees_what_it_is_asked_for(store, fake, tmp_path, table):
    names, _, _, _, log = table
    done(store, options(tmp_path))
    place = {name: i for i, name in enumerate(names)}
    assert len(fake.TissueMean.fits) == 5 + 1 + 5 + 3
    for fit in fake.TissueMean.fits:
        seen = np.zeros(log.shape, bool)
        for batch in (fit["train"], fit["valid"]):
            rows = [place[g] for g in batch.gene]
            plane = batch.blocks["profile"].read()
            visible = plane[:, 1] > 0
            # What is shown is true, what is not shown reads 0, what validates is not shown.
            assert plane[:, 0] == pytest.approx(np.where(visible, log[rows], 0.0), abs=1e-3)
            np.logical_or.at(seen, rows, visible)
            if batch is fit["valid"]:
                assert not (visible & batch.mask).any()
            else:
                assert (visible == batch.mask).all()
        validating = np.zeros(log.shape, bool)
        np.logical_or.at(validating, [place[g] for g in fit["valid"].gene], fit["valid"].mask)
        learned = np.zeros(log.shape, bool)
        np.logical_or.at(learned, [place[g] for g in fit["train"].gene], fit["train"].mask)
        assert not (validating & learned).any()
        family = lambda batch: set(batch.family)  # noqa: E731
        for batch in fit["tested"]:
            shown = batch.blocks["profile"].read()[:, 1] > 0
            shows = {"some" if row.any() else "none" for row in shown}
            assert shows <= fit["asked"]
            if not set(batch.gene) & set(fit["train"].gene):  # folds over genes
                assert not family(batch) & (family(fit["train"]) | family(fit["valid"]))
                assert not family(fit["train"]) & family(fit["valid"])


def test_places_reach_the_learner_as_they_are(store, fake, tmp_path, table):
    names, contig, tss, strand, _ = table
    done(store, options(tmp_path, "entries-20"))
    train = fake.TissueMean.fits[0]["train"]
    found = train.blocks["place"].read()
    rows = [names.index(g) for g in train.gene]
    codes = {c: i for i, c in enumerate(sorted(set(contig)))}
    assert found[:, 0].tolist() == [codes[contig[i]] for i in rows]
    assert found[:, 1].tolist() == [tss[i] for i in rows]
    assert found[:, 2].tolist() == [tss[i] for i in rows]  # no TTS is given
    assert found[:, 3].tolist() == [1 if strand[i] == "+" else -1 for i in rows]
    assert (found[:, 4] == 1).all()


def test_masks_do_not_depend_on_the_order_of_the_file(tmp_path, fake, table):
    names, contig, tss, strand, log = table
    order = np.random.default_rng(1).permutation(len(names))
    digests = []
    for i, rows in enumerate((np.arange(len(names)), order)):
        columns = list(TISSUES) if i == 0 else list(TISSUES)[::-1]
        values = (2**log - 1)[rows][:, :: 1 if i == 0 else -1]
        pick = [names[r] for r in rows], [contig[r] for r in rows], tss[rows], strand[rows]
        made = build_table(tmp_path / str(i), *pick, values, columns, families=0)
        (plan,) = plan_runs(made, options(tmp_path))
        digests.append({k: v["digest"] for k, v in plan.identity["masks"].items()})
        (other,) = plan_runs(made, options(tmp_path, seeds=1, split="families-4fold"))
        assert other.identity["masks"]["entries-20"]["digest"] == digests[-1]["entries-20"]
        assert other.identity["masks"]["whole-profile"]["digest"] != digests[-1]["whole-profile"]
    assert digests[0] == digests[1]
    first, second = plan_runs(made, options(tmp_path, "entries-20", seeds=2))
    assert first.identity["masks"] != second.identity["masks"]
    assert first.digest != second.digest


def test_masks_lie_beside_the_run_as_they_were_used(whole_run):
    for name, told in whole_run.identity["masks"].items():
        file = whole_run.path / "masks" / f"{name}.parquet"
        table = pd.read_parquet(file)
        used = whole_run.predictions[whole_run.predictions["mask"] == name]
        pairs = zip(table["gene"], table["tissue"], table["fold"], strict=True)
        assert set(pairs) == set(
            zip(used["gene"].astype(str), used["sample"].astype(str), used["fold"], strict=True)
        )
        import pyarrow.parquet as pq

        about = json.loads(pq.read_schema(file).metadata[b"meristem"])
        assert about["digest"] == told["digest"]
        assert about["mask"] == name


def test_a_run_is_taken_up_where_it_stood(store, fake, tmp_path, monkeypatch):
    failing = options(
        tmp_path, "whole-profile", "entries-20", learners=["imputing_fakes:FailsOnEntries"]
    )
    (outcome,) = done(store, failing)
    assert outcome.state == "failed"
    assert "fails on entries" in outcome.error["message"]
    assert len(fake.TissueMean.fits) == 6
    monkeypatch.setattr(fake.FailsOnEntries, "fit", fake.TissueMean.fit)
    (outcome,) = done(store, failing)
    assert outcome.state == "ok"
    assert len(fake.TissueMean.fits) == 7  # the fold that had failed, and no other
    assert done(store, failing)[0].state == "already there"


def test_leaks_are_refused(store, fake, tmp_path):
    with pytest.raises(LeakageError):
        plan_runs(store, options(tmp_path, split="random-5fold"))


def test_intervals_cover_and_are_told_apart(whole_run):
    found = whole_run.predictions
    metrics = whole_run.metrics.set_index(["metric", "scope"])["value"]
    for mask, part in found.groupby("mask", observed=True):
        inside = ((part["y_true"] >= part["y_low"]) & (part["y_true"] <= part["y_high"])).mean()
        assert metrics["coverage_90", f"mask:{mask}"] == pytest.approx(inside)
        assert metrics["width_90", f"mask:{mask}"] == pytest.approx(
            (part["y_high"] - part["y_low"]).mean()
        )
        assert (part["y_low"] >= 0).all()
    assert 0.8 < metrics["coverage_90", "mask:whole-profile"] < 0.98


def test_distance_and_tandem_by_all_pairs(whole_run, table):
    names, contig, tss, _, _ = table
    place = {name: i for i, name in enumerate(names)}
    part = whole_run.predictions.query("mask == 'whole-profile'").drop_duplicates("gene")
    fold = dict(zip(part["gene"], part["fold"], strict=True))
    for gene, distance in zip(part["gene"], part["distance"], strict=True):
        i = place[gene]
        others = [
            abs(int(tss[i]) - int(tss[j])) for j, name in enumerate(names)
            if j != i and contig[j] == contig[i] and fold[name] != fold[gene]
        ]  # fmt: skip
        assert distance == min(others)
    assert not part["tandem"].any()  # families never straddle
    entries = whole_run.predictions.query("mask == 'entries-20'")
    family = {name: i // 2 for i, name in enumerate(names)}
    for gene, tandem in zip(entries["gene"], entries["tandem"], strict=True):
        i = place[gene]
        kin = [j for j in range(len(names)) if j != i and family[names[j]] == family[names[i]]]
        assert tandem == any(contig[j] == contig[i] for j in kin)


def test_several_samples_of_a_tissue_are_their_median(tmp_path, fake):
    names, contig, tss, strand, _ = simulated_table(60)
    rng = np.random.default_rng(3)
    columns = [f"s{i}" for i in range(9)]
    tissue = ["a", "b", "c", "a", "b", "c", "a", "b", ""]
    tpm = np.round(rng.gamma(2.0, 10.0, (60, 9)), 4)
    tpm[5, [0, 3]] = np.nan
    samples = [["sample", "tissue"], *([s, t] for s, t in zip(columns, tissue, strict=True))]
    made = build_table(tmp_path, names, contig, tss, strand, tpm, columns, samples=samples)
    result = result_of(made, options(tmp_path / "runs", "whole-profile"))
    frame = pd.DataFrame(tpm[:, :8], names, tissue[:8]).T.groupby(level=0).median().T
    wanted = np.log2(1 + frame.stack())
    got = result.predictions.set_index(["gene", "sample"])["y_true"]
    got.index = pd.MultiIndex.from_tuples([tuple(map(str, one)) for one in got.index])
    assert got.sort_index().to_numpy() == pytest.approx(wanted.sort_index().to_numpy(), abs=1e-5)
    assert any("median of its samples" in note for note in result.run["notes"])
    assert any("have no tissue" in note and "s8" in note for note in result.run["notes"])


def test_a_unit_that_is_a_log_is_used_as_it_is(tmp_path, fake):
    names, contig, tss, strand, log = simulated_table(60)
    made = build_table(tmp_path, names, contig, tss, strand, log - 5, unit="log2")
    result = result_of(made, options(tmp_path / "runs", "entries-10"))
    assert result.identity["unit"] == "log2"
    assert result.predictions["y_true"].min() < 0
    assert set(result.predictions["mask"]) == {"entries-10"}
    assert len(result.predictions) == round(0.1 * log.size)


def test_bad_tables_are_told_or_refused(tmp_path, fake):
    names, contig, tss, strand, log = simulated_table(60)
    tpm = 2**log - 1

    def with_table(name, values, *, at=None, lines=None, unit="TPM", columns=TISSUES):
        place = contig if at is None else at
        side = strand if lines is None else lines
        return build_table(tmp_path / name, names, place, tss, side, values, columns, unit=unit)

    negative = tpm.copy()
    negative[3, 1] = -2.5
    with pytest.raises(
        DataSetError, match=r"line 5: a negative value .*'-2\.5000' in column 'leaf'"
    ):
        with_table("tpm", negative)
    with pytest.raises(InputError, match=r"first gene g0003 in sample leaf: -2\.5"):
        plan_runs(with_table("negative", negative, unit="intensity"), options(tmp_path))
    empty = tpm.copy()
    empty[:, 2] = np.nan
    result = result_of(with_table("empty", empty), options(tmp_path / "runs", "whole-profile"))
    assert "stem" not in set(result.predictions["sample"])
    assert any("no value at all" in n and "stem" in n for n in result.run["notes"])
    with pytest.raises(InputError, match="none of the 6 tissues"):
        plan_runs(with_table("nothing", np.full_like(tpm, np.nan)), options(tmp_path))
    one = with_table("one", tpm[:, :1], columns=TISSUES[:1])
    (plan,) = plan_runs(one, options(tmp_path))
    told = " ".join(plan.notes)
    assert "only one tissue has values (root)" in told
    assert "mask half-tissues does not apply and is left out: there is only one tissue" in told
    assert {"half-tissues", "tissue-group"}.isdisjoint(plan.identity["masks"])
    result_of(one, options(tmp_path / "runs", "whole-profile"))
    with pytest.raises(InputError, match="--mask half-tissues does not apply: there is only one"):
        plan_runs(one, options(tmp_path, "half-tissues"))
    some = ["" if i < 4 else c for i, c in enumerate(contig)]
    side = ["." if i == 9 else s for i, s in enumerate(strand)]
    result = result_of(
        with_table("placeless", tpm, at=some, lines=side), options(tmp_path / "runs")
    )
    notes = " ".join(result.run["notes"])
    assert "4 of 60 genes with values have no position, for example g0000" in notes
    assert "1 genes have a position and no strand, for example g0009" in notes
    by_mask = result.predictions.groupby("mask", observed=True)["gene"].nunique()
    assert by_mask["whole-profile"] == 60
    assert by_mask["block"] == by_mask["chromosome"] == 56
    assert "mask:whole-profile/no-position" in set(result.metrics["scope"])


def test_duplicate_genes_and_unknown_strands_are_refused_with_their_line(tmp_path):
    names, contig, tss, strand, log = simulated_table(60)
    twice = [*names[:59], names[0]]
    with pytest.raises(DataSetError, match=r"(?s)g0000 \(also line 2\)"):
        build_table(tmp_path / "a", twice, contig, tss, strand, 2**log - 1)
    odd = ["x" if i == 4 else s for i, s in enumerate(strand)]
    with pytest.raises(DataSetError, match=r"neither \+ nor -.*'x'|'x'"):
        build_table(tmp_path / "b", names, contig, tss, odd, 2**log - 1)


def test_ids_without_a_position_are_told(tmp_path, fake):
    names, contig, tss, strand, log = simulated_table(60)
    from tests.builders.tables import write_dataset, write_positions

    dataset = write_dataset(tmp_path / "data", names, contig, tss, strand, 2**log - 1)
    write_positions(tmp_path / "data" / "genes.tsv", names[5:], contig[5:], tss[5:], strand[5:])
    import featurestore
    from featurestore.build.engine import build

    build(dataset, tmp_path / "store.zarr")
    result = result_of(
        featurestore.open(tmp_path / "store.zarr"), options(tmp_path, "whole-profile")
    )
    assert result.predictions["gene"].nunique() == 55
    told = [note for note in result.run["notes"] if "5 of 60 ids name no gene" in note]
    assert told
    assert "give them a line with an empty position" in told[0]


def test_what_does_not_belong_together_is_refused(store, fake, tmp_path):
    with pytest.raises(InputError, match=r"--mask whole-profiles: unknown mask.*whole-profile"):
        plan_runs(store, options(tmp_path, "whole-profiles"))
    with pytest.raises(InputError, match="--mask is not for task expression"):
        plan_runs(store, replace(options(tmp_path, "block"), task="expression"))
    with pytest.raises(InputError, match="only --task imputation has"):
        plan_runs(store, RunOptions([FAKE], out=tmp_path))
    with pytest.raises(InputError, match="--tune is not for task imputation"):
        plan_runs(store, options(tmp_path, tune=3, learners=["imputing_fakes:Tunable"]))


def test_tables_with_sequence_take_features_and_travel(trained, tmp_path):
    """Learners of sequence alone run too; plans can be sent to workers; seeds draw other masks."""
    import pickle

    import featurestore

    folder, _ = trained
    store = featurestore.open(folder / "store.zarr")
    learners = ["ridge@kmer", "gene_tissue_mean", "family_mean"]
    opts = options(tmp_path, "half-tissues", learners=learners)
    plans = plan_runs(store, opts)
    sent = pickle.loads(pickle.dumps(plans[0].data))  # noqa: S301 - ours
    again = sent.folding(plans[0].aligned, 0, plans[0].learner.info)
    assert again.identity() == plans[0].folding.identity()
    outcomes = done(store, opts)
    assert [one.state for one in outcomes] == ["ok"] * 3, [one.error for one in outcomes]
    by_label = {one.label: read_run(one.path) for one in outcomes}
    keys = ["gene", "species", "genotype", "sample", "y_true"]
    first, *others = (run.predictions[keys].astype({"gene": str}) for run in by_label.values())
    for other in others:
        pd.testing.assert_frame_equal(first, other)
    metrics = {
        k: run.metrics.set_index(["metric", "scope"])["value"] for k, run in by_label.items()
    }
    assert metrics["gene_tissue_mean"]["r2", "mask:half-tissues"] > 0.3
    assert not any(name.startswith("coverage") for name, _ in metrics["ridge@kmer"].index)
    assert any(
        "genotypes; a row is a gene in a genotype" in n for n in by_label["ridge@kmer"].run["notes"]
    )


@pytest.mark.parametrize("contigs", [3, 16])
def test_whole_chromosomes_validate_where_they_are_not_too_many_genes(contigs):
    contig = np.repeat(np.arange(contigs), 25)
    rows = np.arange(len(contig))
    names = [f"chr{i}" for i in range(contigs)]
    # A few relatives on other chromosomes go along.
    family = np.where(rows % 25 == 3, rows % 2, rows + 10)
    places = Places(contig, names, 1000 * rows, 1000 * rows, np.ones(len(rows), np.int8), family)
    for fold in by_chromosome(places, np.ones(len(rows), bool), keys_of(names * 25, 0)):
        valid, train = set(fold.valid.tolist()), set(fold.train.tolist())
        assert not set(family[fold.valid]) & set(family[fold.train])
        assert 0.1 <= len(valid) / len(valid | train) <= 0.25
        alone = [
            i for i in range(contigs)
            if (here := set(rows[(contig == i) & (family > 9)].tolist()) - set(fold.test.tolist()))
            and here <= valid
        ]  # fmt: skip
        assert bool(alone) == (contigs == 16)
        some = {int(contig[gene]) for gene in valid if family[gene] > 9}
        assert contigs == 3 or some == set(alone)
