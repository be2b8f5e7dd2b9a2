"""Files that would take far more memory or time than their size says, and those that never end."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featurestore import untrusted
from featurestore.errors import InputError, MeristemError
from featurestore.inputs.fasta import read_fasta
from featurestore.inputs.problems import Problems
from featurestore.score.bgzf import BgzfWriter
from tests.builders.hostile import FILES, fs, write

MEGABYTE = 1 << 20


def limited(code: str, *arguments: str, megabytes: int = 700) -> subprocess.CompletedProcess[str]:
    """Run Python under a limit of address space."""
    head = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({megabytes} << 20,) * 2)\n"
    return subprocess.run(
        [sys.executable, "-c", head + code, *arguments], capture_output=True, text=True, timeout=60,
        check=False, env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_gzip_bomb_ends_early_under_a_limit_of_memory(tmp_path):
    """Four gigabytes in four megabytes: unpacked whole, the process could not have gone on."""
    path = tmp_path / "x.fa.gz"
    block = gzip.compress(b"A" * (64 * MEGABYTE), 9)
    path.write_bytes(b"".join([gzip.compress(b">a\n"), *[block] * 64]))
    code = (
        "import sys; from pathlib import Path\n"
        "from featurestore.inputs.files import read_bytes\n"
        "from featurestore.inputs.problems import Problems\n"
        "p = Problems(); assert read_bytes(Path(sys.argv[1]), p) is None; print(p.items[0])\n"
    )
    done = limited(code, str(path), megabytes=1500)
    assert done.returncode == 0, done.stderr
    assert "is a bomb" in done.stdout
    assert "gunzip" in done.stdout


def bgzip(data: bytes) -> bytes:
    """In blocks of the usual size."""
    out = io.BytesIO()
    writer = BgzfWriter(out)
    writer.write(data)
    writer.finish()
    return out.getvalue()


@pytest.mark.parametrize("pack", [gzip.compress, bgzip])
def test_what_expands_beyond_its_ratio_is_told(tmp_path, monkeypatch, pack):
    monkeypatch.setattr(untrusted, "LARGEST_EXPANDED", 1000)
    problems = Problems()
    path = tmp_path / "x.fa"
    path.write_bytes(pack(b">a\n" + b"A" * 100_000))
    assert read_fasta(path, problems) is None
    assert "bomb" in problems.items[0].what
    bases = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), 9000).tobytes()
    path.write_bytes(pack(b">a\n" + bases))
    assert read_fasta(path, Problems()) is not None


def test_a_line_without_end_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(untrusted, "LONGEST_LINE", 10_000)
    toml = FILES["dataset.toml"] + 'variants.v = "v.vcf.gz"\n'
    vcf = gzip.compress(b"##fileformat=VCFv4.2\n##" + b"x" * 1_000_000)
    done = fs("plan", str(write(tmp_path, {"dataset.toml": toml, "v.vcf.gz": vcf})))
    assert (done.code, done.escaped) == (2, None)
    assert "a line is longer than 10,000" in done.text


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    from benchmarks.runs.files import read_run
    from benchmarks.splits.files import split_from_file
    from featurestore.embedders.a2z.keras_file import read_keras
    from featurestore.embedders.checkpoint import read_json, read_tensors
    from featurestore.score.check import contigs_of
    from learners.disk import load_arrays, load_config

    path = tmp_path / "run.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    for name in ("learner.json", "arrays.safetensors", "w.safetensors", "w.bin"):
        (tmp_path / name).symlink_to(path)
    genes = pd.DataFrame({"gene": ["g"], "species": "p", "family": "F", "fold": ""})
    readers = (
        lambda: read_run(tmp_path), lambda: split_from_file(path, genes), lambda: read_json(path),
        lambda: read_keras(path), lambda: contigs_of(path), lambda: load_arrays(tmp_path),
        lambda: load_config(tmp_path, "ridge"), lambda: read_tensors((tmp_path / "w.safetensors",)),
        lambda: read_tensors((tmp_path / "w.bin",)),
    )  # fmt: skip
    started = time.monotonic()
    for read in readers:
        with pytest.raises(MeristemError, match=str(tmp_path)):
            read()
    assert time.monotonic() - started < 30


def test_a_variant_file_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "v.vcf")
    toml = FILES["dataset.toml"] + 'variants.v = "v.vcf"\n'
    done = fs("plan", str(write(tmp_path, {"dataset.toml": toml})))
    assert (done.code, done.escaped) == (2, None)
    assert "pipe or a device" in done.text


def test_a_long_table_of_lonely_values_takes_no_square_of_memory(tmp_path):
    rows = "".join(f"g{i}\ts{i}\t1\n" for i in range(20_000))  # 400 million cells
    done = fs("plan", str(write(tmp_path, {"e.tsv": "gene\tsample\tTPM\n" + rows})))
    assert (done.code, done.escaped) == (2, None)
    assert "20,000 values for 20,000 genes in 20,000 samples" in done.text


def test_one_long_sequence_among_short_ones_takes_no_product_of_memory(tmp_path):
    rows = "".join(f"g{i},ACGT\n" for i in range(20_000))
    table = f"gene,promoter\nlong,{'A' * 300_000}\n{rows}"
    toml = '[species.plant]\nsequences = "q.csv"\n'
    done = fs("plan", str(write(tmp_path, {"dataset.toml": toml, "q.csv": table})))
    assert (done.code, done.escaped) == (2, None)
    assert "all as wide as the longest" in done.text


def seconds(call) -> float:
    """The quicker of two."""
    found = []
    for _ in range(2):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return min(found)


def test_time_grows_with_size_and_not_with_its_square():
    """Ten times as much takes ten times as long, not a hundred."""
    from featurestore.errors import did_you_mean
    from featurestore.inputs.annotation_lines import _BARE, _gtf_attributes
    from featurestore.inputs.toml_text import parse

    def toml(n: int) -> None:
        with pytest.raises(ValueError, match="parts or more"):
            parse("a." * n + "a = 1")

    for call, size in (
        (lambda n: _gtf_attributes('tag "abc"; ' * n), 20_000),
        (lambda n: _BARE.fullmatch("x" + " " * n + "="), 200_000),
        (lambda n: did_you_mean("a" * n, ["b" * n]), 100_000),
        (toml, 20_000),
    ):
        assert seconds(lambda c=call, n=size: c(n)) < 1  # squares of these take minutes


def test_many_columns_and_samples_are_counted_once(tmp_path):
    from featurestore.inputs.tables import read_table

    path = tmp_path / "t.tsv"
    names = "\t".join(f"s{i}" for i in range(100_000))
    path.write_text(f"gene\t{names}\ng1\t" + "\t".join("1" * 100_000) + "\n")
    table = read_table(path, Problems())
    assert table is not None
    assert table.find(["s99999"]) == 100_000


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 500 + "]" * 500])
def test_deep_json_is_told_wherever_it_is_read(tmp_path, text):
    from benchmarks.runs.files import read_run
    from featurestore.embedders.checkpoint import read_json
    from learners.disk import load_config

    for name in ("run.json", "learner.json"):
        (tmp_path / name).write_text(text)
    for read in (
        lambda: read_run(tmp_path),
        lambda: read_json(tmp_path / "run.json"),
        lambda: load_config(tmp_path, "ridge"),
    ):
        with pytest.raises(InputError, match="nested too deep"):
            read()


def test_a_parquet_file_of_one_value_repeated_is_not_unfolded(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from benchmarks.runs.tables import read_parquet

    path = tmp_path / "x.parquet"
    column = pa.array(np.zeros(20_000_000, np.int8))
    pq.write_table(pa.table({"a": column}), path, row_group_size=1 << 26)
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match=r"20,000,000 rows"):
        read_parquet(path)


def test_a_split_is_not_unpacked_by_its_suffix(tmp_path):
    """pandas would unpack a zip, whatever its size."""
    from benchmarks.splits.files import split_from_file

    path = tmp_path / "s.csv.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("s.csv", "gene,fold\n" + "g1,1\n" * 100_000)
    genes = pd.DataFrame({"gene": ["g1"], "species": "p", "family": "F", "fold": ""})
    with pytest.raises(InputError, match="zip archive"):
        split_from_file(path, genes)


def test_json_of_a_run_is_held_to_its_size(tmp_path, monkeypatch):
    from benchmarks.runs.files import read_run

    monkeypatch.setattr(untrusted, "LARGEST_JSON", 1000)
    Path(tmp_path / "run.json").write_text(json.dumps({"a": "x" * 2000}))
    with pytest.raises(InputError, match="larger than 1,000 bytes"):
        read_run(tmp_path)
