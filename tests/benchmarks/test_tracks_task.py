"""Task ``tracks``: geometry of folds, what learners are handed, scores of a planted signal, runs."""

from __future__ import annotations

import sys
from io import StringIO

import numpy as np
import pandas as pd
import pytest

from benchmarks.inputs.genes import gene_frame
from benchmarks.runs.files import read_run, read_runs
from benchmarks.runs.plans import RunOptions
from benchmarks.runs.progress import Progress
from benchmarks.runs.runner import plan_runs, run
from benchmarks.scores.compare import compare
from benchmarks.scores.leaderboard import leaderboard, render_text
from benchmarks.tracks.folding import Setting
from benchmarks.tracks.regions import make_regions, read_regions
from featurestore.errors import InputError
from tests.benchmarks.conftest import FAKES

pyBigWig = pytest.importorskip("pyBigWig")

GC = "track_fakes:GcLine"
WINDOW, BIN, BINS = 16_384, 128, 74
SPECIES = ("simulated_gamma", "simulated_delta")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A small long-range world, its store, and tracks planted on the GC content of bins."""
    import featurestore
    from featurestore.build.engine import build
    from featurestore.sample.long_range import write_long_range
    from featurestore.sequence.long_windows import LongWindows

    folder = tmp_path_factory.mktemp("world")
    write_long_range(folder / "data", genes=40, seed=6)
    build(folder / "data" / "dataset.toml", folder / "store.zarr", embedders=["kmer"])
    store = featurestore.open(folder / "store.zarr")
    rng = np.random.default_rng(0)
    bases, planted = {}, {}
    rows = ["track\tspecies\tfile\tstrand"]
    for species in SPECIES:
        genome = LongWindows(store, species)
        for name, length in genome.contigs.items():
            bases[species, name] = genome.read(name, length // 2, 1, length)
        for track, noise in (("gc", 0.0), ("noisy", 0.1)):
            with pyBigWig.open(str(folder / f"{species}.{track}.bw"), "w") as out:
                out.addHeader(list(genome.contigs.items()))
                for name, length in genome.contigs.items():
                    code = bases[species, name]
                    at = np.arange(0, length, BIN)
                    gc = np.add.reduceat(np.isin(code, (1, 2)), at) / BIN
                    value = np.maximum(2 + 3 * gc + noise * rng.standard_normal(len(gc)), 0)
                    ends = np.append(at[1:], length)
                    out.addEntries(
                        [name] * len(at), at.tolist(), ends=ends.tolist(), values=value.tolist()
                    )
                    planted[species, track, name] = value.astype(np.float32)
            rows.append(f"{track}\t{species}\t{species}.{track}.bw\t.")
    (folder / "tracks.tsv").write_text("\n".join(rows) + "\n")
    return folder, store, bases, planted


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.syspath_prepend(str(FAKES))
    import track_fakes

    track_fakes.GcLine.fits.clear()
    yield track_fakes
    sys.modules.pop("track_fakes")


def options(world, out, *learners, **more):
    settings = {"tracks": world[0] / "tracks.tsv", "window": WINDOW, "bootstrap": 50, **more}
    return RunOptions(list(learners or (GC,)), task="tracks", out=out, **settings)


def done(world, opts):
    return run(world[1], opts, Progress(0, StringIO()))


def result_of(world, opts):
    (outcome,) = done(world, opts)
    assert outcome.state == "ok", outcome.error
    return read_run(outcome.path)


def planned(world, tmp_path, **more):
    (plan,) = plan_runs(world[1], options(world, tmp_path, **more))
    return plan


@pytest.fixture(scope="module")
def whole_run(world, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAKES))
        result = result_of(world, options(world, tmp_path_factory.mktemp("whole")))
        sys.modules.pop("track_fakes")
        return result


# -- folds -----------------------------------------------------------------------------------


def spans_of(regions, fold, side):
    """Bases of a side, as sets of bins by species and contig."""
    found = {}
    for row in regions.table.to_dict(orient="records"):
        validates = str(fold) in row["validates"].split(",")
        here = "test" if row["fold"] == fold else "valid" if validates else "train"
        if here == side:
            bins = range(row["start"] // BIN, -(-row["end"] // BIN))
            found.setdefault((row["species"], row["contig"]), set()).update(bins)
    return found


def near_family_under_test(genes, regions, fold):
    """Bins near relatives of genes whose TSS is in a stretch under test, gene by gene."""
    tested = spans_of(regions, fold, "test")

    def is_tested(g):
        base = g["tss"] - (1 if g["strand"] < 0 else 0)
        return base // BIN in tested.get((g["species"], g["contig"]), ())

    rows = genes.to_dict(orient="records")
    families = {g["family"] for g in rows if is_tested(g)}
    near = {}
    for g in rows:
        if g["family"] in families:
            low, high = sorted((g["tss"], g["tts"]))
            bins = range(max(low - 1000, 0) // BIN, -(-(high + 1000) // BIN))
            near.setdefault((g["species"], g["contig"]), set()).update(bins)
    return near, {g["gene"] for g in rows if is_tested(g)}


@pytest.mark.parametrize("tilings", [1, 3])
def test_folds_keep_bins_and_families_apart(world, fake, tmp_path, tilings):
    _, store, _, planted = world
    genes = gene_frame(store, list(SPECIES))
    plan = planned(world, tmp_path, tilings=tilings)
    regions = plan.folding.setting.regions
    length = {(s, c): len(v) for (s, t, c), v in planted.items() if t == "gc"}
    covered = {key: np.zeros(n, int) for key, n in length.items()}
    for row in regions.table.to_dict(orient="records"):
        bins = covered[row["species"], row["contig"]]
        bins[row["start"] // BIN : -(-row["end"] // BIN)] += 1
    assert all((bins == 1).all() for bins in covered.values())  # stretches tile the genome
    seen = []
    for fold in plan.folding.folds:
        near, tested = near_family_under_test(genes, regions, fold)
        seen += sorted(tested)
        one = plan.folding.setting.fold(fold)
        assert set(genes["gene"].to_numpy()[one.genes]) == tested
        for batch, side in zip(plan.folding.batches(fold), ("train", "valid"), strict=True):
            source = batch.blocks["tracks"].source
            count = {key: np.zeros(n, int) for key, n in length.items()}
            values = batch.blocks["tracks"].read()
            assert values.shape == (len(batch), BINS, 4)
            for row in range(len(batch)):
                key = str(source.tiles.species[row]), str(source.tiles.contig[row])
                first = int(source.tiles.first[row])
                own = [i for i, head in enumerate(source.head_of) if head == key[0]]
                others = [i for i in range(4) if i not in own]
                assert (values[row][:, others] == -1).all()
                known = np.flatnonzero(values[row][:, own[0]] >= 0)
                assert (
                    (values[row][:, own] >= 0).all(axis=1) == (values[row][:, own[0]] >= 0)
                ).all()
                count[key][first + known] += 1
                truth = planted[key[0], "gc", key[1]]
                assert values[row][known, own[0]] == pytest.approx(truth[first + known], abs=1e-4)
            for key, found in count.items():
                wanted = np.zeros(length[key], int)
                times = tilings if side == "train" else 1
                wanted[sorted(spans_of(regions, fold, side).get(key, set()))] = times
                wanted[sorted(b for b in near.get(key, ()) if b < length[key])] = 0
                # Each bin once a tiling, none that tells of the test.
                assert (found == wanted).all()
            if side == "train":
                assert len(set(batch.gene.tolist())) == len(batch)
        share = sum(map(len, spans_of(regions, fold, "valid").values())) / sum(
            len(bins)
            for side in ("train", "valid")
            for bins in spans_of(regions, fold, side).values()
        )
        assert 0.09 < share < 0.25
    assert sorted(seen) == sorted(genes["gene"])  # each gene is tested once
    balance = regions.table.groupby("fold")["genes"].sum()
    assert balance.max() - balance.min() <= 2 * regions.table["genes"].max()


def test_windows_show_the_genome_around_their_bins(world, fake, tmp_path):
    bases = world[2]
    plan = planned(world, tmp_path)
    train, _ = plan.folding.batches(1)
    codes = train.blocks["genome"].read()
    assert codes.dtype == np.uint8
    assert codes.shape == (len(train), WINDOW)
    tiles = train.blocks["tracks"].source.tiles
    for row, name in enumerate(train.gene.tolist()):
        contig, _, place = name.rpartition(":")
        start = int(tiles.first[row]) * BIN - (WINDOW - BINS * BIN) // 2
        assert place == f"{start}-{start + WINDOW}"
        whole = bases[str(train.species[row]), contig]
        at = np.arange(start, start + WINDOW)
        inside = (at >= 0) & (at < len(whole))
        assert (codes[row][inside] == whole[at[inside]]).all()
        assert (codes[row][~inside] == 4).all()
    values = train.blocks["tracks"].read()
    known = pd.DataFrame(np.where(values >= 0, values, np.nan).swapaxes(1, 2).reshape(-1, BINS))
    wanted = known.mean(axis=1).to_numpy().reshape(len(train), -1)
    assert train.targets == pytest.approx(wanted, nan_ok=True)
    assert (train.mask == np.isfinite(wanted)).all()
    assert train.target_names == ("gc", "noisy", "gc", "noisy")


@pytest.mark.parametrize("tilings", [1, 3])
def test_windows_around_genes_are_of_the_genes_that_may_be_learned_from(
    world, fake, tmp_path, tilings
):
    plan = planned(world, tmp_path, learn_from="genes", tilings=tilings)
    setting: Setting = plan.folding.setting
    placed = setting.problem.genes.placed
    signals, layout = setting.problem.signals, setting.problem.layout
    assert setting.regions.digest == planned(world, tmp_path).folding.setting.regions.digest
    for fold in plan.folding.folds:
        one = setting.fold(fold)
        assert one.test.names.tolist() == planned_tests(world, tmp_path, fold)
        for side, tiles, times in ((0, one.train, tilings), (1, one.valid, 1)):
            learn = one.learn[side]
            wanted: dict[tuple[str, str, int], set[int]] = {}
            for row in placed.to_dict(orient="records"):
                at = signals.species[row["species"]].first[row["contig"]]
                if learn[row["species"]][at + row["bin"]]:
                    wanted[row["species"], row["contig"], row["bin"]] = set()
            assert len(tiles) == times * len(wanted) > 0
            for i in range(len(tiles)):
                key = str(tiles.species[i]), str(tiles.contig[i])
                low, high = int(tiles.low[i]), int(tiles.high[i])
                assert tiles.first[i] <= low < high <= tiles.first[i] + layout.bins
                for species, contig, bin_ in wanted:
                    if (species, contig) == key and low <= bin_ < high:
                        wanted[species, contig, bin_].add(bin_ - int(tiles.first[i]))
            places = {(2 * n + 1) * layout.bins // (2 * times) for n in range(times)}
            assert all(places <= found for found in wanted.values())


def planned_tests(world, tmp_path, fold):
    return planned(world, tmp_path).folding.setting.fold(fold).test.names.tolist()


def test_stretches_depend_on_the_repeat_and_on_nothing_else(world, fake, tmp_path):
    setting: Setting = planned(world, tmp_path).folding.setting
    signals, placed = setting.problem.signals, setting.problem.genes.placed
    first = make_regions(signals, placed, 5, 0)
    shuffled = placed.sample(frac=1, random_state=2)
    assert make_regions(signals, shuffled, 5, 0).digest == first.digest == setting.regions.digest
    other = make_regions(signals, placed, 5, 1)
    assert other.digest != first.digest
    assert (other.table["start"] == first.table["start"]).all()
    assert (other.table["fold"] != first.table["fold"]).any()
    # The window has no part in it: long and short contexts are compared on the same genes.
    assert planned(world, tmp_path, window=2_048).folding.setting.regions.digest == first.digest
    with pytest.raises(InputError, match="--learn-from"):
        planned(world, tmp_path, learn_from="gene")
    assert planned(world, tmp_path, tilings=2).folding.setting.regions.digest == first.digest
    assert planned(world, tmp_path, stretch=60_000).folding.setting.regions.digest != first.digest
    first.write(tmp_path / "regions.parquet")
    assert read_regions(tmp_path / "regions.parquet").digest == first.digest
    changed = pd.read_parquet(tmp_path / "regions.parquet")
    changed.to_parquet(tmp_path / "bare.parquet")
    with pytest.raises(InputError, match="no recipe"):
        read_regions(tmp_path / "bare.parquet")
    with pytest.raises(InputError, match="shorter stretches"):
        make_regions(signals, placed, 5, 0, stretch=100_000_000)


# -- scores ----------------------------------------------------------------------------------


def test_truth_is_what_the_files_say_around_the_tss(world, whole_run):
    folder, store, _, _ = world
    genes = gene_frame(store, list(SPECIES)).set_index("gene")
    found = whole_run.predictions
    assert len(found) == 2 * len(genes)
    assert whole_run.identity["unit"] == "log2(1+signal)"
    for row in found.to_dict(orient="records"):
        gene = genes.loc[row["gene"]]
        base = gene["tss"] - (1 if gene["strand"] < 0 else 0)
        middle = base // BIN
        with pyBigWig.open(str(folder / f"{row['species']}.{row['sample']}.bw")) as file:
            bins = [
                np.nanmean(file.values(gene["contig"], b * BIN, (b + 1) * BIN))
                for b in (middle - 1, middle, middle + 1)
            ]
        assert row["y_true"] == pytest.approx(np.log2(1 + np.mean(bins)), abs=1e-4)
        assert row["contig"] == gene["contig"]


def test_a_planted_signal_is_found_as_well_as_it_can_be(world, whole_run):
    _, _, bases, planted = world
    metrics = whole_run.metrics.set_index(["metric", "scope"])["value"]
    found = whole_run.predictions
    gc = found[found["sample"] == "gc"]
    assert gc["y_pred"].to_numpy() == pytest.approx(gc["y_true"].to_numpy(), abs=1e-3)
    assert metrics["pearson", "track:gc"] == pytest.approx(1.0, abs=1e-4)
    assert metrics["pearson", "track:gc/bins"] == pytest.approx(1.0, abs=1e-4)
    noisy = found[found["sample"] == "noisy"]
    wanted = np.corrcoef(noisy["y_true"], noisy["y_pred"])[0, 1]
    assert metrics["pearson", "track:noisy"] == pytest.approx(wanted)
    # Over bins: the correlation of the planted values with the line they were planted on.
    value, line = [], []
    for (species, name), code in bases.items():
        at = np.arange(0, len(code), BIN)
        line.append(np.add.reduceat(np.isin(code, (1, 2)), at) / BIN)
        value.append(planted[species, "noisy", name])
    wanted = np.corrcoef(np.concatenate(value), np.concatenate(line))[0, 1]
    assert metrics["pearson", "track:noisy/bins"] == pytest.approx(wanted, abs=5e-3)
    rows = whole_run.metrics[whole_run.metrics["scope"] == "track:noisy/bins"]
    assert set(rows["metric"]) == {"pearson", "pearson_log"}
    assert (rows["ci_low"] < rows["value"]).all()
    assert (rows["n"] == sum(map(len, value))).all()
    assert "track:noisy/bins/species:simulated_delta" in set(whole_run.metrics["scope"])
    assert "track:noisy/within-species" in set(whole_run.metrics["scope"])


def test_a_run_holds_its_stretches_and_sums(whole_run):
    regions = read_regions(whole_run.path / "regions.parquet")
    assert regions.digest == whole_run.identity["regions"]["digest"]
    sums = pd.read_parquet(whole_run.path / "sums.parquet")
    assert len(sums) == 2 * len(regions.table)
    of = regions.table.set_index(["species", "contig", "start"])["fold"]
    place = pd.MultiIndex.from_frame(sums[["species", "contig", "start"]])
    assert (of[place].to_numpy() == sums["fold"].to_numpy()).all()
    bins = -(-(sums["end"] - sums["start"]) // BIN)
    assert (sums["n"] == bins).all()
    told = " ".join(whole_run.run["notes"])
    assert "stretches of the genome" in told
    assert "are not learned from" in told


def test_tracks_of_the_other_strand_are_not_a_genes_own(world, fake, tmp_path):
    folder = world[0]
    rows = ["track\tspecies\tfile\tstrand"]
    rows += [
        f"s_{n}\t{SPECIES[0]}\t{SPECIES[0]}.gc.bw\t{s}" for n, s in (("plus", "+"), ("minus", "-"))
    ]
    (folder / "stranded.tsv").write_text("\n".join(rows) + "\n")
    found = result_of(world, options(world, tmp_path, tracks=folder / "stranded.tsv"))
    genes = gene_frame(world[1], [SPECIES[0]]).set_index("gene")["strand"]
    strand = genes[found.predictions["gene"]].to_numpy()
    sign = found.predictions["sample"].map({"s_plus": 1, "s_minus": -1}).to_numpy()
    assert (strand == sign).all()
    assert len(found.predictions) == len(genes)
    assert any("simulated_delta: no tracks" in note for note in found.run["notes"])
    delta = [
        s for s in found.run["funnel"] if s["species"] == SPECIES[1] and s["stage"] == "scored"
    ]
    assert delta[0]["lost"][0]["reason"] == "simulated_delta has no tracks"


# -- runs ------------------------------------------------------------------------------------


def test_runs_are_ranked_and_compared_track_by_track(world, fake, tmp_path):
    done(world, options(world, tmp_path, GC, "track_fakes:Level"))
    done(world, options(world, tmp_path, GC, window=2_048))
    done(world, options(world, tmp_path, GC, only_folds=[2]))
    runs = read_runs(tmp_path)
    board = leaderboard(runs)
    whole = board[~board["split"].str.contains("only")]
    assert set(whole["target"]) == {"gc", "noisy"}
    best = whole[whole["target"] == "gc"].iloc[0]
    assert best["method"].startswith("fake_gc (window=")
    assert best["pearson_bins"] == pytest.approx(1.0, abs=1e-4)
    part = board[board["split"].str.contains("fold 2 only")]
    assert set(part["method"]) == {"fake_gc"}
    assert "Pearson of bins" in render_text(board)
    pairs = compare(runs, metric="mse", bootstrap=200).pairs
    assert len(pairs) == 2 * 3  # three methods on either track; the run of one fold stands alone
    row = pairs[
        (pairs["target"] == "gc") & (pairs["method_b"] == "fake_level")
        & (pairs["method_a"] == "fake_gc (window=2048)")
    ].iloc[0]  # fmt: skip
    assert row["note"] == ""  # same genes, same folds
    assert row["ci_high"] < 0
    assert row["n_genes"] == 40
    assert row["unit"] == "log2(1+signal)"


def test_one_fold_alone_is_the_same_fold(world, fake, whole_run, tmp_path):
    found = result_of(world, options(world, tmp_path, only_folds=[3]))
    assert found.identity["only_folds"] == [3]
    assert [fold["fold"] for fold in found.run["folds"]] == [3]
    keys = ["gene", "sample", "y_true", "y_pred"]
    wanted = whole_run.predictions[whole_run.predictions["fold"] == 3]
    pd.testing.assert_frame_equal(
        found.predictions[keys].reset_index(drop=True), wanted[keys].reset_index(drop=True)
    )
    scored = sum(s["count"] for s in found.run["funnel"] if s["stage"] == "scored")
    assert scored == found.predictions["gene"].nunique()
    assert any("only fold 3 of 5" in note for note in found.run["notes"])
    with pytest.raises(InputError, match=r"--only-fold 7: folds of this split are 0, 1, 2, 3, 4"):
        planned(world, tmp_path, only_folds=[7])


def test_other_replicates_score_bins_again(world, fake, tmp_path):
    first = result_of(world, options(world, tmp_path))
    (again,) = done(world, options(world, tmp_path, bootstrap=20))
    assert again.state == "scored again"
    second = read_run(again.path)
    assert len(second.metrics) == len(first.metrics)
    assert (second.metrics["scope"] == first.metrics["scope"]).all()


def test_windows_that_are_left_out_fail_the_run(world, fake, tmp_path):
    (outcome,) = done(world, options(world, tmp_path, "track_fakes:LeavesOut"))
    assert outcome.state == "failed"
    assert "windows not at all" in outcome.error["message"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"learners": ["ridge"]}, "ridge does not predict tracks bin by bin"),
        ({"learners": [GC + "@kmer"]}, "hands windows of the genome to"),
        ({"tracks": None}, "--tracks FILE"),
        ({"window": 1_000}, "--window 1,000: give a multiple of the bin of 128 bp"),
        ({"stretch": 1_000}, "--stretch 1,000: give at least 8,192 bp"),
        ({"split": "leave-one-chromosome-out"}, "give families-5fold"),
        ({"target": "median"}, "--target median is not for task tracks"),
        ({"tune": 3}, "fake_gc has no search space"),
        ({"task": "expression"}, "--tracks is not for task expression"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_fit(world, fake, tmp_path, more, told):
    from dataclasses import replace

    with pytest.raises(InputError, match=told):
        plan_runs(world[1], replace(options(world, tmp_path), **more))
    assert not fake.GcLine.fits


def test_the_report_shows_all_tracks_and_each(world, fake, tmp_path, monkeypatch):
    from benchmarks.report import all_tracks
    from benchmarks.report.html import render_report
    from tests.benchmarks.test_report import check_offline

    done(world, options(world, tmp_path, GC, "track_fakes:Level"))
    runs = read_runs(tmp_path)
    page = check_offline(render_report(runs, bootstrap=20))
    assert page.text.count("All tracks") == 1
    assert page.text.count("Leaderboard") == 2
    assert "bins 1.000" in page.text
    monkeypatch.setattr(all_tracks, "MOST", 1)
    page = check_offline(render_report(runs, bootstrap=20))
    assert page.text.count("Leaderboard") == 1
    assert "The first 1 tracks have a section" in page.text
    assert "noisy" in page.text


def test_the_command_line_tells_each_track(world, fake, tmp_path):
    import json

    from click.testing import CliRunner

    from benchmarks.cli import bench

    folder = world[0]
    asked = [
        "run", "--store", str(folder / "store.zarr"), "--task", "tracks", "--tracks",
        str(folder / "tracks.tsv"), "--window", str(WINDOW), "--learner", GC, "--out", str(tmp_path),
        "--bootstrap", "0", "--only-fold", "0", "--only-fold", "4",
    ]  # fmt: skip
    done = CliRunner().invoke(bench, asked, catch_exceptions=False)
    assert done.exit_code == 0
    assert "pearson gc 1.000 noisy" in done.stdout
    assert "gc/bins 1.000" in done.stdout
    assert "windows, predicted" in done.stderr
    (facts,) = json.loads(CliRunner().invoke(bench, [*asked, "--json"]).stdout)
    assert facts["state"] == "already there"
    assert facts["pearson"]["track:gc/bins"] > 0.999
    told = CliRunner().invoke(bench, ["compare", str(tmp_path)]).stdout
    assert "Nothing to compare" in told
    told = CliRunner().invoke(bench, ["leaderboard", str(tmp_path)]).stdout
    assert "tracks · gc [log2(1+signal)] · families-5fold · folds 0, 4 only" in told


def test_a_plan_travels_to_other_processes(world, fake, tmp_path):
    import pickle

    plan = planned(world, tmp_path)
    there = pickle.loads(pickle.dumps(plan.data))  # noqa: S301 - our own bytes
    folds = there.folding(plan.aligned, 0, plan.learner.info)
    assert folds.identity() == plan.folding.identity()
    mine, theirs = plan.folding.batches(2)[0], folds.batches(2)[0]
    for name in ("genome", "tracks"):
        rows = np.array([3, 0])
        assert (mine.blocks[name].read(rows) == theirs.blocks[name].read(rows)).all()
