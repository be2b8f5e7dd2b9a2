"""Tables of tracks: bigWig and tidy values against plain binning, and every mistake told at once."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest

from benchmarks.inputs.tracks import signals as signals_module
from benchmarks.inputs.tracks.signals import read_signals
from featurestore.errors import InputError, InputFileNotFoundError
from featurestore.inputs.problems import DataSetError

pyBigWig = pytest.importorskip("pyBigWig")

CONTIGS = {"planta": {"chr1": 5_000, "chr2": 700}, "plantb": {"c": 1_000}}


def intervals(rng, length, *, gaps=True):
    """Half-open intervals that follow one another, values of few binary digits."""
    cuts = np.sort(rng.choice(np.arange(1, length), 60 if length > 900 else 9, replace=False))
    starts, ends = np.append(0, cuts), np.append(cuts, length)
    keep = rng.random(len(starts)) < 0.7 if gaps else np.ones(len(starts), bool)
    values = rng.integers(0, 40, len(starts)) / 4
    return starts[keep], ends[keep], values[keep]


def write_bigwig(path, contigs, tables):
    with pyBigWig.open(str(path), "w") as out:
        out.addHeader(list(contigs.items()))
        for name in contigs:
            if name in tables:
                starts, ends, values = tables[name]
                out.addEntries(
                    [name] * len(starts), starts.astype(int).tolist(),
                    ends=ends.astype(int).tolist(), values=values.astype(float).tolist(),
                )  # fmt: skip


def plain(length, starts, ends, values, size, *, unknown=False, scale=1.0, clip=np.inf):
    """Means base by base."""
    base = np.full(length, np.nan)
    for start, end, value in zip(starts, ends, values, strict=True):
        base[start:end] = value
    out = []
    for at in range(0, length, size):
        part = base[at : at + size]
        known = part[~np.isnan(part)]
        bases = len(known) if unknown else len(part)
        mean = known.sum() / bases if bases else np.nan
        out.append(-1.0 if np.isnan(mean) else min(scale * mean, clip))
    return np.array(out)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(3)
    tables = {
        ("planta", "a"): {c: intervals(rng, n) for c, n in CONTIGS["planta"].items()},
        ("planta", "b"): {"chr1": intervals(rng, 5_000)},
        ("plantb", "a"): {"c": intervals(rng, 1_000, gaps=False)},
    }
    for (species, track), found in tables.items():
        write_bigwig(tmp_path / f"{species}.{track}.bw", CONTIGS[species], found)
    (tmp_path / "tracks.tsv").write_text(
        "track\tspecies\tfile\tunit\tscale\tclip\tmissing\n"
        "a\tplanta\tplanta.a.bw\treads\t2\t9.5\t\n"
        "b\tplanta\tplanta.b.bw\treads\t\t\tnan\n"
        "a\tplantb\tplantb.a.bw\t\t\t\tzero\n"
    )
    return tmp_path, tables


def read(path, **more):
    return read_signals(path, CONTIGS, list(CONTIGS), **more)


@pytest.mark.parametrize("size", [128, 100, 1])
def test_bigwig_bins_are_means_over_bases(files, size):
    folder, tables = files
    found = read(folder / "tracks.tsv", bin_bp=size)
    assert found.names == ("a", "b", "a")
    assert found.head_of == ("planta", "planta", "plantb")
    settings = [{"scale": 2.0, "clip": 9.5}, {"unknown": True}, {}]
    for column, ((species, track), told) in enumerate(zip(tables, settings, strict=True)):
        for contig, length in CONTIGS[species].items():
            rows = tables[species, track].get(contig, (np.array([], int),) * 3)
            bins = -(-length // size)
            mine = found.read(species, contig, 0, bins)
            assert mine[:, column] == pytest.approx(plain(length, *rows, size, **told), abs=1e-5)
            others = [i for i, head in enumerate(found.head_of) if head != species]
            assert (mine[:, others] == -1).all()
    # Off the contig nothing is known.
    past = found.read("plantb", "c", -2, -(-1_000 // size) + 5)
    assert (past[:2] == -1).all()
    assert (past[-3:] == -1).all()
    assert (past[2:-3, 2] >= 0).all()


def tidy_of(tables, species_tracks):
    rows = [
        (species, contig, start, end, track, value)
        for species, track in species_tracks
        for contig, found in tables[species, track].items()
        for start, end, value in zip(*found, strict=True)
    ]
    return pd.DataFrame(rows, columns=["species", "contig", "start", "end", "track", "value"])


def test_a_tidy_table_says_the_same_as_bigwig_files(files):
    folder, tables = files
    (folder / "plain.tsv").write_text(
        "track\tspecies\tfile\na\tplanta\tplanta.a.bw\na\tplantb\tplantb.a.bw\n"
    )
    wanted = read(folder / "plain.tsv")
    tidy = tidy_of(tables, [("planta", "a"), ("plantb", "a")]).sample(frac=1, random_state=1)
    order = tidy["species"].map({"planta": 0, "plantb": 1}).sort_values(kind="stable").index
    tidy = tidy.loc[order]
    tidy.to_csv(folder / "tidy.tsv", sep="\t", index=False)
    with gzip.open(folder / "tidy.tsv.gz", "wt") as out:
        tidy.to_csv(out, sep="\t", index=False)
    tidy.to_parquet(folder / "tidy.parquet")
    for name in ("tidy.tsv", "tidy.tsv.gz", "tidy.parquet"):
        found = read(folder / name)
        for species in CONTIGS:
            mine, theirs = found.species[species], wanted.species[species]
            assert mine.values == pytest.approx(theirs.values, abs=1e-5)
        assert found.names == wanted.names


def test_the_digest_is_of_the_values(files, monkeypatch):
    folder, tables = files
    first = read(folder / "tracks.tsv").digest
    (folder / "planta.a.bw").rename(folder / "other.bw")
    table = (folder / "tracks.tsv").read_text()
    (folder / "tracks.tsv").write_text(table.replace("planta.a.bw", "other.bw"))
    assert read(folder / "tracks.tsv").digest == first
    monkeypatch.setattr(signals_module, "LARGE", 0)  # held in a file
    held = read(folder / "tracks.tsv")
    assert held.digest == first
    assert isinstance(held.species["planta"].values, np.memmap)
    starts, ends, values = tables["plantb", "a"]["c"]
    values = values.copy()
    values[3] += 0.25
    write_bigwig(folder / "plantb.a.bw", CONTIGS["plantb"], {"c": (starts, ends, values)})
    assert read(folder / "tracks.tsv").digest != first


def test_strands_are_paired_by_name_or_by_a_column(files):
    folder, _ = files
    text = "track\tspecies\tfile\tstrand\nn\tplanta\tplanta.b.bw\t.\n"
    text += "x_minus\tplanta\tplanta.a.bw\t-\nx_plus\tplanta\tplanta.b.bw\t+\n"
    (folder / "s.tsv").write_text(text)
    found = read(folder / "s.tsv")
    assert found.opposite == (0, 2, 1)
    assert found.strand_of.tolist() == [0, -1, 1]
    (folder / "s.tsv").write_text(text.replace("x_plus", "other"))
    with pytest.raises(DataSetError, match=r"line 3: track 'x_minus'(.|\n)*line 4: track 'other'"):
        read(folder / "s.tsv")
    rows = text.replace("x_plus", "other").splitlines()
    named = [rows[0] + "\tpair", rows[1] + "\t", rows[2] + "\tp", rows[3] + "\tp"]
    (folder / "s.tsv").write_text("\n".join(named) + "\n")
    assert read(folder / "s.tsv").opposite == (0, 2, 1)


def test_all_mistakes_of_bigwig_files_are_told_at_once(files):
    folder, _ = files
    one = (np.array([0]), np.array([50]), np.array([1.0]))
    write_bigwig(folder / "strange.bw", {"chr1": 5_000, "Chr9": 100}, {"chr1": one})
    write_bigwig(folder / "long.bw", {"chr1": 5_001}, {"chr1": one})
    low = (np.array([0, 300]), np.array([50, 400]), np.array([1.0, -2.5]))
    write_bigwig(folder / "low.bw", {"chr1": 5_000}, {"chr1": low})
    (folder / "no.bw").write_bytes(b"no bigWig at all")
    (folder / "bad.tsv").write_text(
        "track\tspecies\tfile\tscale\tstrand\n"
        "a\tplanta\tstrange.bw\t\t\n"
        "b\tplanta\tlong.bw\t\t\n"
        "c\tplanta\tlow.bw\t\t\n"
        "d\tplanta\tno.bw\t\t\n"
        "a\tplanta\tlow.bw\t-1\t\n"
        "e\tplantaa\tlow.bw\t\t\n"
        "f\tplanta\tgone.bw\ttwo\tup\n"
    )
    with pytest.raises(DataSetError) as caught:
        read(folder / "bad.tsv")
    told = str(caught.value)
    for part in (
        "strange.bw: contigs 'Chr9' are not in the genome of planta",
        "long.bw: contigs of other length than in the genome of planta: chr1 (5,001 bp, in the genome 5,000)",
        "low.bw, contig chr1: value -2.5 at base 301",
        "give scale -1",
        "no.bw: not a readable bigWig file",
        "bad.tsv, line 6: track 'a' of planta stands in line 2 as well",
        "bad.tsv, line 7: species 'plantaa' is not in the store. Did you mean 'planta'?",
        "bad.tsv, line 8: no file 'gone.bw'",
        "scale 'two' is no number",
        "strand 'up'",
    ):
        assert part in told, part
    # Turned round, the negative file is one of amounts: base 1 then is below zero.
    (folder / "bad.tsv").write_text("track\tspecies\tfile\tscale\na\tplanta\tlow.bw\t-1\n")
    with pytest.raises(DataSetError, match=r"value 1 \(times scale -1\) at base 1;"):
        read(folder / "bad.tsv")


HEAD = "species\tcontig\tstart\tend\ttrack\tvalue\n"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("planta\tchr1\t0\t10\ta\t1\nplanta\tchr1\t9\t20\ta\t1\n",
         r"line 3: track 'a': chr1:9-20 overlaps 0-10 of line 2"),
        ("planta\tchr1\t0\t10\ta\tinf\n", r"line 2: value inf"),
        ("planta\tchr1\t0\t10\ta\t-1\n", r"line 2: value -1"),
        ("planta\tchr1\t0\t10\ta\t\n", r"line 2: value nan"),
        ("planta\tchr1\t10\t10\ta\t1\n", r"line 2: start 10 and end 10"),
        ("planta\tchr1\t1.5\t10\ta\t1\n", r"line 2: start 1.5 and end 10"),
        ("planta\tchr2\t690\t701\ta\t1\n", r"line 2: end 701 lies off chr2, which has 700 bp"),
        ("planta\tchr3\t0\t10\ta\t1\n", r"line 2: contig 'chr3' is not in the genome of planta"),
        ("plantx\tchr1\t0\t10\ta\t1\n", r"line 2: species 'plantx' is not in the store"),
    ],
)  # fmt: skip
def test_mistakes_of_tidy_tables_name_their_line(tmp_path, rows, told):
    (tmp_path / "t.tsv").write_text(HEAD + rows)
    with pytest.raises(DataSetError, match=told):
        read(tmp_path / "t.tsv")


def test_tables_that_cannot_be_used_say_what_they_are(tmp_path):
    with pytest.raises(InputFileNotFoundError, match="no such file"):
        read(tmp_path / "none.tsv")
    (tmp_path / "t.tsv").write_text("track\tspecies\tpath\na\tplanta\tx.bw\n")
    with pytest.raises(DataSetError, match="no column file"):
        read(tmp_path / "t.tsv")
    (tmp_path / "t.tsv").write_text("track\tspecies\tfile\tclipp\na\tplanta\tx.bw\t3\n")
    with pytest.raises(DataSetError, match="Did you mean 'clip'"):
        read(tmp_path / "t.tsv")
    (tmp_path / "t.tsv").write_text(HEAD + "plantb\tc\t0\t10\ta\t1\n")
    with pytest.raises(InputError, match="names no track of planta"):
        read_signals(tmp_path / "t.tsv", {"planta": CONTIGS["planta"]}, list(CONTIGS))


def test_contigs_that_a_file_lacks_are_told(files):
    folder, _ = files
    write_bigwig(
        folder / "one.bw", {"chr2": 700}, {"chr2": intervals(np.random.default_rng(1), 700)}
    )
    (folder / "t.tsv").write_text("track\tspecies\tfile\na\tplanta\tone.bw\n")
    found = read(folder / "t.tsv")
    assert any("lacks 1 contigs of the genome with 5,000 bp (chr1)" in note for note in found.notes)
    assert any("plantb: no tracks" in note for note in found.notes)
    assert (found.read("planta", "chr1", 0, 40) == 0).all()
