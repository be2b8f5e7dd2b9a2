"""Scores of variants by tracks: against strings and plain layers, whole over stops, in every format."""

from __future__ import annotations

import hashlib
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from featurestore.cli import cli
from featurestore.errors import InputError, UnknownNameError
from featurestore.inputs.problems import DataSetError
from featurestore.score.tracks import Asked, read_scores, score_tracks
from featurestore.score.tracks.model import heads_of
from featurestore.sequence.iupac import decode
from tests.builders.dataset import write_dataset
from tests.builders.species import random_species
from tests.oracles.track_scores import averaged, formulas, windows

torch = pytest.importorskip("torch")

LENGTH, BINS, BIN = 2048, 8, 128
SCORES = ("sad", "sar", "geosad", "l2")
NAMES = ["accessibility", "mark", "cage"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random weights, none of them neutral, whose tracks answer to single bases."""
    from featurestore.embedders.enformer import Enformer, EnformerConfig

    folder = tmp_path_factory.mktemp("weights") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = Enformer(EnformerConfig.preset(
            "tiny", input_bp=LENGTH, target_length=BINS, output_heads={"test_plant": 3, "other": 2},
            track_names={"test_plant": NAMES},
        ))  # fmt: skip
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if "to_out" in name:
                    tensor.normal_(std=0.1)
                elif name.startswith(("_heads", "final")) and tensor.ndim > 1:
                    tensor.mul_(5)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def species():
    return random_species(genes=12, contigs=2, contig_bp=6000, seed=5)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, species):
    return write_dataset(tmp_path_factory.mktemp("data"), species)


@pytest.fixture(scope="module")
def contigs(species):
    code, at = species.genome.code, zip(species.genome.contig_start, species.genome.contig_length, strict=True)  # fmt: skip
    return dict(
        zip(species.genome.contig_id, (decode(code[s : s + n]) for s, n in at), strict=True)
    )


def _variants(contigs: dict[str, str]) -> list[tuple[str, int, str, str]]:
    """Substitutions, an insertion, a deletion, several bases for several; near an end and inside."""
    chosen = []
    for contig, pos, size, put in (
        ("chr1", 40, 1, None), ("chr1", 1500, 1, None), ("chr1", 1503, 1, None), ("chr1", 2200, 1, "+GATTACA"),
        ("chr2", 900, 9, "-"), ("chr2", 2501, 3, "ACGT"), ("chr2", 4444, 1, None), ("chr2", 5990, 1, None),
    ):  # fmt: skip
        sequence = contigs[contig]
        while "N" in sequence[pos - 1 : pos - 1 + size]:
            pos += 1
        ref = sequence[pos - 1 : pos - 1 + size]
        other = "ACGT"[("ACGT".index(ref[0]) + 1) % 4]
        alt = (
            other
            if put is None
            else ref[0]
            if put == "-"
            else ref + put[1:]
            if put[0] == "+"
            else put
        )
        chosen.append((contig, pos, ref, alt))
    return chosen


def _vcf(path: Path, rows: Any) -> Path:
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    lines += [f"{c}\t{p}\tv{i}\t{r}\t{a}\t.\t.\tKEPT=1" for i, (c, p, r, a) in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def vcf(tmp_path_factory, contigs):
    return _vcf(tmp_path_factory.mktemp("vcf") / "v.vcf", _variants(contigs))


@pytest.fixture(scope="module")
def model(checkpoint):
    from featurestore.embedders.enformer import TrackModel

    return TrackModel.open(checkpoint, device="cpu").chosen(heads=["test_plant"])


def _scored(dataset, vcf, out, asked, checkpoint, **more: Any):
    summary = score_tracks(
        dataset, vcf, out, asked, checkpoint=str(checkpoint), device="cpu", **more
    )
    return summary, read_scores(out) if out.suffix != ".vcf" else None


def _close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-5)


def test_around_variants_the_numbers_are_those_of_whole_windows(
    dataset, vcf, checkpoint, model, contigs, tmp_path
):
    asked = Asked(SCORES, ("sum", "mean"), shifts=(-3, 0, 3), rc=True)
    summary, found = _scored(dataset, vcf, tmp_path / "s.zarr", asked, checkpoint)
    variants = _variants(contigs)
    assert (summary.scored, summary.rows, len(found.rows)) == (8, 8, 8)
    assert list(found.tracks) == [f"test_plant:{n}" for n in NAMES]
    for row, (contig, pos, ref, alt) in enumerate(variants):
        pairs = [windows(contigs[contig], pos, ref, alt, LENGTH, shift=s) for s in (-3, 0, 3)]
        expected = formulas(*averaged(model, pairs, rc=True))
        assert np.abs(expected["sad_sum"]).max() > 1e-3  # what is compared is no rounding
        for name, values in expected.items():
            _close(found.values[name][row], values)
    for score in ("sad", "geosad"):
        ratio = found.values[f"{score}_sum"] / found.values[f"{score}_mean"]
        np.testing.assert_allclose(ratio, BINS, rtol=1e-6)


@pytest.mark.parametrize(("orientation", "rc"), [("forward", True), ("transcript", False)])
def test_around_genes_the_tss_stays_in_the_middle(
    dataset, vcf, checkpoint, model, contigs, species, tmp_path, orientation, rc
):
    asked = Asked(SCORES, ("mean", "tss"), "gene", orientation, shifts=(0, 2), rc=rc)
    _, found = _scored(dataset, vcf, tmp_path / "s.parquet", asked, checkpoint)
    rows = found.rows
    wanted = set()
    sides = set()
    for (number, (contig, pos, ref, alt)), gene in product(
        enumerate(_variants(contigs)), range(12)
    ):
        tss, strand = int(species.tss[gene]), int(species.strand[gene])
        low = pos - 1 + (len(ref) != len(alt) and ref[0] == alt[0])
        high = pos - 1 + len(ref)
        if species.contig[gene] != contig or not (low < tss + LENGTH // 2 and max(high, low + 1) > tss - LENGTH // 2):  # fmt: skip
            continue
        assert not low < tss < high  # else the deletion would take the TSS
        wanted.add((f"v{number}", species.gene[gene]))
        first = [t if s > 0 else t - 1 for t, s, c in zip(species.tss, species.strand, species.contig, strict=True) if c == contig]  # fmt: skip
        assert (
            rows["nearest_tss"][rows["id"] == f"v{number}"] == min(abs(low - f) for f in first)
        ).all()
        row = rows.index[(rows["id"] == f"v{number}") & (rows["gene"] == species.gene[gene])]
        assert len(row) == 1
        assert rows.loc[row[0], "distance"] == (low - tss if strand > 0 else tss - 1 - low)
        oriented = strand if orientation == "transcript" else 1
        pairs = [windows(contigs[contig], pos, ref, alt, LENGTH, tss=tss, shift=s, strand=oriented) for s in (0, 2)]  # fmt: skip
        before, after = averaged(model, pairs, rc=rc)
        # Bins 3 to 5 of 8 around the first base of a gene read forward; their mirror read backwards.
        bins = slice(3, 6) if strand * oriented > 0 else slice(2, 5)
        for name, values in formulas(before[bins], after[bins]).items():
            if name.endswith("mean"):
                _close(found.values[name.replace("mean", "tss")][row[0]], values)
        _close(found.values["sad_mean"][row[0]], formulas(before, after)["sad_mean"])
        sides.add((len(ref) == len(alt), low < tss, strand))
    scored = rows[rows["status"] == "scored"]
    assert sorted(zip(scored["id"], scored["gene"], strict=True)) == sorted(wanted)
    assert len(sides) >= 6  # indels and substitutions, before and behind, on both strands


def test_with_the_tss_alone_fewer_bins_give_the_same(dataset, vcf, checkpoint, tmp_path):
    tss = _scored(
        dataset, vcf, tmp_path / "a.zarr", Asked(SCORES, window="gene", rc=True), checkpoint
    )[1]
    both = _scored(dataset, vcf, tmp_path / "b.zarr", Asked(SCORES, ("sum", "tss"), "gene", rc=True), checkpoint)[1]  # fmt: skip
    assert Asked(SCORES, window="gene").aggregations == ("tss",)
    for name in tss.values:
        _close(tss.values[name], both.values[name])


def test_a_shared_window_is_computed_once_and_centred_on_its_stretch(
    dataset, checkpoint, model, contigs, tmp_path
):
    sequence = contigs["chr1"]
    places = [p for p in range(1550, 1700) if sequence[p - 1] != "N"][::12]
    rows = [("chr1", p, sequence[p - 1], "A" if sequence[p - 1] != "A" else "C") for p in places]
    path = _vcf(tmp_path / "near.vcf", rows)
    summary, found = _scored(
        dataset, path, tmp_path / "s.zarr", Asked(share=512, batch=5), checkpoint
    )
    assert (summary.references, summary.windows_computed) == (1, len(rows))
    for row, (_, pos, _, alt) in enumerate(rows):
        start = 3 * 512 + 256 - LENGTH // 2
        changed = sequence[: pos - 1] + alt + sequence[pos:]
        pair = [(sequence[start : start + LENGTH], changed[start : start + LENGTH])]
        _close(found.values["sad_sum"][row], formulas(*averaged(model, pair, rc=False))["sad_sum"])


def test_nothing_is_lost_and_every_reason_is_told(dataset, checkpoint, contigs, species, tmp_path):
    sequence = contigs["chr1"]
    tss = next(int(t) for t, c in zip(species.tss, species.contig, strict=True) if c == "chr1" and t > 1100)  # fmt: skip
    good = [("chr1", p, sequence[p - 1], "ACGT"[("ACGT".index(sequence[p - 1]) + 1) % 4]) for p in range(tss + 3, tss + 12) if sequence[p - 1] != "N"]  # fmt: skip
    wrong = "ACGT"[("ACGT".index(good[0][2]) + 2) % 4]
    spanning = sequence[tss - 3 : tss + 3]
    rows = [
        *good, ("chr1", good[0][1], wrong, good[0][2]), ("chr1", good[0][1], good[0][2], "<DEL>,*"),
        ("chr9", 5, "A", "C"), ("chr1", 9_999_999, "A", "C"), ("chr1", good[0][1], good[0][2], "."),
        ("chr1", tss - 2, spanning, spanning[0]), ("chr1", tss + 20, sequence[tss + 19], sequence[tss + 19] + "A" * 1025),
    ]  # fmt: skip
    path = _vcf(tmp_path / "v.vcf", rows)
    out = tmp_path / "s.parquet"
    summary, found = _scored(dataset, path, out, Asked(window="gene"), checkpoint)
    told = {f["reason"].partition(":")[0]: f["count"] for f in summary.not_scored}
    genes = sum(c == "chr1" and tss - 1000 < t < tss + 1000 for t, c in zip(species.tss, species.contig, strict=True))  # fmt: skip
    assert told == {
        "ref_mismatch": 1, "symbolic": 1, "spanning_deletion": 1, "contig_unknown": 1,
        "off_contig": 1, "no_alt": 1, "spans_tss": 1, "too_long": 1,
    }  # fmt: skip
    assert genes >= 1
    assert summary.alleles == len(rows) + 1
    assert set(found.rows["id"]) == {f"v{i}" for i in range(len(rows))}
    unscored = found.rows["status"] == "not_scored"
    assert unscored.sum() == 8
    assert np.isnan(found.values["sad_tss"][unscored]).all()
    assert np.isfinite(found.values["sad_tss"][~unscored]).all()


def test_variants_of_another_assembly_are_refused(dataset, checkpoint, contigs, tmp_path):
    sequence = contigs["chr1"]
    rows = [("chr1", p, sequence[p], "A" if sequence[p] != "A" else "C") for p in range(100, 140) if sequence[p] != "N"]  # fmt: skip
    with pytest.raises(DataSetError, match="POS seems to count from 0"):
        _scored(dataset, _vcf(tmp_path / "v.vcf", rows), tmp_path / "s.zarr", Asked(), checkpoint)
    assert list(tmp_path.iterdir()) == [tmp_path / "v.vcf"]


@pytest.mark.parametrize("window", ["variant", "gene"])
def test_three_formats_agree(dataset, vcf, checkpoint, tmp_path, window):
    words = ["score", str(dataset.parent), "--variants", str(vcf), "--embedder", "enformer", "--checkpoint",
             str(checkpoint), "--window", window, "--score", "sad", "--score", "l2", "--tracks", "c*", "--tracks",
             "test_plant:mark", "--shifts", "-3,0,3", "--device", "cpu"]  # fmt: skip
    for name in ("s.zarr", "s.parquet", "s.vcf"):
        done = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / name), "--json"])
        assert done.exit_code == 0, done.output
    one, other = read_scores(tmp_path / "s.zarr"), read_scores(tmp_path / "s.parquet")
    assert list(one.tracks) == list(other.tracks) == ["test_plant:mark", "test_plant:cage"]
    pd.testing.assert_frame_equal(one.rows, other.rows, check_dtype=False)
    aggregation = "sum" if window == "variant" else "tss"
    for name in (f"sad_{aggregation}", f"l2_{aggregation}"):
        np.testing.assert_array_equal(one.values[name], other.values[name])
        _agrees_with_vcf(one, name, tmp_path / "s.vcf", by_gene=window == "gene")


def _agrees_with_vcf(found, name, path, *, by_gene):
    text = path.read_text()
    body = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    for index, track in enumerate(("mark", "cage")):
        key = f"MERISTEM_TRACK_{name.upper()}_{track}"
        assert f"##INFO=<ID={key},Number={'.' if by_gene else 'A'},Type=Float" in text
        for line in body:
            fields = dict(f.partition("=")[::2] for f in line[7].split(";"))
            assert fields["KEPT"] == "1"
            own = found.rows[(found.rows["id"] == line[2]) & (found.rows["status"] == "scored")]
            told = [float(v) for v in fields.get(key, "").split(",") if v]
            np.testing.assert_allclose(told, found.values[name][own.index, index], rtol=1e-5)
            if by_gene and len(own):
                assert fields["MERISTEM_TRACK_ROW"] == ",".join(f"1|{g}" for g in own["gene"])


def _digest(path: Path) -> str:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    parts = [f"{p.relative_to(path)} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in files]
    return "\n".join(parts)


@pytest.mark.parametrize("name", ["s.zarr", "s.parquet", "s.vcf"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    dataset, vcf, checkpoint, tmp_path, monkeypatch, name
):
    from featurestore.score.tracks.predict import Predictor

    asked = Asked(("sad", "sar"), window="gene", batch=2, rc=True)
    (tmp_path / "whole").mkdir()
    whole = _scored(dataset, vcf, tmp_path / "whole" / name, asked, checkpoint)[0]
    out, plain, calls = tmp_path / name, Predictor.tracks, []

    def stops(self, *args):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return plain(self, *args)

    monkeypatch.setattr(Predictor, "tracks", stops)
    with pytest.raises(KeyboardInterrupt):
        _scored(dataset, vcf, out, asked, checkpoint)
    journal = tmp_path / f".{name}.journal"
    assert not out.exists()
    # A process that is killed may leave half a row.
    journal.write_bytes(journal.read_bytes()[:-3])
    monkeypatch.setattr(Predictor, "tracks", plain)
    again = _scored(dataset, vcf, out, asked, checkpoint)[0]
    assert again.windows_resumed >= 3
    assert again.windows_resumed + again.windows_computed == whole.windows_computed
    assert _digest(out) == _digest(tmp_path / "whole" / name)
    assert not journal.exists()


def test_a_journal_of_other_settings_is_not_taken(dataset, vcf, checkpoint, tmp_path, monkeypatch):
    from featurestore.score.tracks import run

    def refuses(*_):
        raise KeyboardInterrupt

    plain = run.write
    monkeypatch.setattr(run, "write", refuses)
    with pytest.raises(KeyboardInterrupt):
        _scored(dataset, vcf, tmp_path / "s.zarr", Asked(), checkpoint)
    monkeypatch.setattr(run, "write", plain)
    summary = _scored(dataset, vcf, tmp_path / "s.zarr", Asked(rc=True), checkpoint)[0]
    assert summary.windows_resumed == 0


def test_a_store_gives_what_its_data_set_gives(dataset, vcf, checkpoint, tmp_path):
    from featurestore.build.engine import build

    build(dataset, tmp_path / "store.zarr", embedders=["onehot"])
    asked = Asked(window="gene")
    one = _scored(tmp_path / "store.zarr", vcf, tmp_path / "a.zarr", asked, checkpoint)[1]
    other = _scored(dataset, vcf, tmp_path / "b.zarr", asked, checkpoint)[1]
    pd.testing.assert_frame_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.values["sad_tss"], other.values["sad_tss"])


def test_components_are_the_scaled_scores_turned(dataset, vcf, checkpoint, tmp_path):
    out = tmp_path / "s.parquet"
    summary, found = _scored(dataset, vcf, out, Asked(("sad", "l2")), checkpoint, components=2)
    turned = read_scores(summary.components)
    assert list(turned.tracks) == ["pca:pc1", "pca:pc2"]
    with np.load(f"{out}.pca.npz", allow_pickle=False) as fit:
        for name, values in found.values.items():
            middle = np.median(values, axis=0)
            spread = np.subtract(*np.percentile(values, [75, 25], axis=0))
            scaled = (values - middle) / spread
            centred = scaled - scaled.mean(0)
            mine = centred @ fit[f"{name}_components"].T
            np.testing.assert_allclose(turned.values[name], mine, rtol=1e-3, atol=1e-4)
            share = np.linalg.svd(centred, compute_uv=False)[:2] ** 2 / (centred**2).sum()
            np.testing.assert_allclose(fit[f"{name}_explained"], share, rtol=1e-4)


@pytest.mark.parametrize(
    ("asked", "more", "message"),
    [
        (Asked(), {"most_gb": 1e-9}, "8 rows × 3 tracks × 1 scores × 4 bytes"),
        (Asked(), {"components": 8}, "8 rows with scores and 3 tracks"),
        (Asked(), {"components": 4}, "at least as many tracks"),
        (Asked(), {"tracks": ["cge"]}, "Did you mean 'cage'"),
        (Asked(), {"tracks": ["x*"]}, "no track fits 'x\\*'"),
        (Asked(), {"heads": ["tset_plant"]}, "Did you mean 'test_plant'"),
        (Asked(shifts=(0, 65)), {}, "at most half a bin of 128 bp"),
        (Asked(window="gene", genes=("nobody",)), {}, "unknown gene"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_any_work(
    dataset, vcf, checkpoint, tmp_path, asked, more, message
):
    with pytest.raises(InputError, match=message):
        _scored(dataset, vcf, tmp_path / "s.zarr", asked, checkpoint, **more)
    assert not list(tmp_path.iterdir())


def test_choices_that_mean_nothing_are_refused():
    for wrong in ({"scores": ("sade",)}, {"aggregations": ("tts",)}, {"window": "genes"}):
        with pytest.raises(UnknownNameError, match="Did you mean"):
            Asked(**wrong)
    for wrong in ({"shifts": (0, 0)}, {"window": "gene", "share": 5}, {"genes": ("g",)}):
        with pytest.raises(InputError):
            Asked(**wrong)


def test_heads_are_those_of_the_species():
    from featurestore.embedders.enformer import EnformerConfig

    public = EnformerConfig()
    assert heads_of(public, "homo_sapiens") == ["human"]
    with pytest.raises(InputError, match="--heads"):
        heads_of(public, "zea_mays")
    own = EnformerConfig.preset(
        "tiny", output_heads={"a": 1, "b": 1}, head_species={"a": ["x", "y"], "b": ["z"]}
    )
    assert heads_of(own, "y") == ["a"]
    assert heads_of(EnformerConfig.preset("tiny", output_heads={"a": 1}), "zea_mays") == ["a"]


def test_options_of_tracks_are_of_track_models_alone(dataset, vcf, checkpoint, tmp_path):
    words = ["score", str(dataset), "--variants", str(vcf), "--out", str(tmp_path / "o.vcf")]
    masked = CliRunner().invoke(cli, [*words, "--embedder", "plantcaduceus", "--rc"])
    assert masked.exit_code == 2
    assert "--rc: of models that predict tracks alone" in masked.output
    both = [*words, "--embedder", "enformer", "--checkpoint", str(checkpoint), "--strands", "both"]
    assert "for tracks it is --rc" in CliRunner().invoke(cli, both).output
    done = CliRunner().invoke(cli, [*words, "--checkpoint", str(checkpoint), "--agg", "mean", "--json", "--tracks", "cage"])  # fmt: skip
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["model"]["scores"] == ["sad_mean"]
    assert facts["scored"] == 8


@pytest.mark.parametrize("rows", [[], [("chr1", 5, "A", "<DEL>")]])
@pytest.mark.parametrize("name", ["s.zarr", "s.parquet", "s.vcf"])
def test_a_vcf_without_anything_to_score_is_written_all_the_same(
    dataset, checkpoint, tmp_path, rows, name
):
    path = _vcf(tmp_path / "v.vcf", rows)
    summary, found = _scored(dataset, path, tmp_path / name, Asked(), checkpoint)
    assert (summary.rows, summary.scored) == (len(rows), 0)
    if found is None:
        body = [x for x in (tmp_path / name).read_text().splitlines() if not x.startswith("#")]
        assert [x.endswith("KEPT=1;MERISTEM_TRACK_NOTE=1||symbolic") for x in body] == [True] * len(
            rows
        )
    else:
        assert found.rows["reason"].tolist() == ["symbolic"] * len(rows)
        assert np.isnan(found.values["sad_sum"]).all()
