"""Any bytes give data or the project's own errors, from every parser and from the command."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore.errors import InputError
from featurestore.inputs.dataset import load_config
from featurestore.inputs.load import load_dataset
from tests.builders.hostile import FILES, write
from tests.builders.inputs_files import bgzip

POSITIONS = "gene\tchrom\ttss1\tstrand\ng1\t1\t5\t+\ng2\t1\t9\t-\n"
SEQUENCES = "gene,species,promoter,median_TPM,chrom,tss\ng1,plant,ACGT,1,1,5\ng2,plant,ACN,2,1,7\n"
REGION = ">g1 gene=g1 chrom=1 strand=+\nACGT\n>g2 gene=g2\nAC\n"
GTF = "".join(
    f'Chr1\tx\t{kind}\t{at}\t{at + 9}\t.\t+\t.\tgene_id "g{at}"; transcript_id "t{at}";\n'
    for at in (1, 101)
    for kind in ("transcript", "exon", "CDS")
)
FAMILIES = "Orthogroup\tplant\trice\nOG1\tg1, g2\tx\n"
# file to damage: what it holds, and the line of [species.plant] that reads it, if another
TARGETS = {
    "g.fa": (FILES["g.fa"], ""),
    "a.gff3": (FILES["a.gff3"], ""),
    "e.tsv": (FILES["e.tsv"], ""),
    "f.tsv": (FILES["f.tsv"], ""),
    "s.tsv": (FILES["s.tsv"], ""),
    "a.gtf": (GTF, 'genome = "g.fa"\nannotation = "a.gtf"\n'),
    "n.tsv": (FAMILIES, 'genome = "g.fa"\nannotation = "a.gff3"\nfamilies = "n.tsv"\n'),
    "p.tsv": (POSITIONS, 'positions = "p.tsv"\n'),
    "q.csv": (SEQUENCES, 'sequences = "q.csv"\n'),
    "r.fa": (REGION, 'sequences = { promoter = "r.fa" }\n'),
    "dataset.toml": (FILES["dataset.toml"], ""),
}
PIECES = [
    b"\0", b"\t", b"\n", b"\r", b'"', b",", b";", b"=", b"#", b">", b" ", b"-", b"%0A", b"\xff", b"\x1b[31m",
    b"\xef\xbb\xbf", b"NaN", b"1e999", b"-1", b"1_0", b"9" * 30, b"Parent=", b"ID=", b'gene_id "', b"gene", b"[", b"{",
    b"\xe2\x80\xae", b"\x1f\x8b", b"\n\n", b"\t\t\t\t\t\t\t\t", b"'", b'"""',
]  # fmt: skip
mutation = st.tuples(
    st.integers(0, 10_000), st.integers(0, 12), st.sampled_from(PIECES) | st.binary(max_size=4)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def read(folder: Path, target: str, content: bytes) -> None:
    """Read the data set with one file replaced; anything but data or an InputError fails."""
    lines = TARGETS[target][1]
    toml = f"[species.plant]\n{lines}" if lines else FILES["dataset.toml"]
    write(folder, {"dataset.toml": toml, target: content})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            load_config(folder)
            (data,) = load_dataset(folder)
        except InputError as error:
            told: str | None = str(error)
        else:
            told = None
    if told is not None:
        assert told.replace("\n", "").isprintable()
        return
    n = len(data.gene)
    assert n == len(set(data.gene)) == len(data.tss) == len(data.family) > 0
    assert all(data.gene)
    assert all(note.isprintable() for note in data.notes)
    if data.expression is not None:
        value = data.expression.value
        assert value.shape == (n, len(data.expression.sample))
        assert not np.isinf(value).any()
        assert not (value < 0).any()


few = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("target", [t for t in TARGETS if t != "dataset.toml"])
@few
@given(mutations=st.lists(mutation, min_size=1, max_size=4))
def test_damaged_files(folder, target, mutations):
    content = bytearray(TARGETS[target][0].encode())
    for at, cut, piece in mutations:
        at %= len(content) + 1
        content[at : at + cut] = piece
    read(folder, target, bytes(content))


@few
@given(mutations=st.lists(mutation, min_size=1, max_size=3))
def test_damaged_dataset_toml(folder, mutations):
    content = bytearray(TARGETS["dataset.toml"][0].encode())
    for at, cut, piece in mutations:
        at %= len(content) + 1
        content[at : at + cut] = piece
    read(folder, "dataset.toml", bytes(content))


@few
@given(
    target=st.sampled_from(list(TARGETS)),
    content=st.binary(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join),
)
def test_any_bytes(folder, target, content):
    read(folder, target, content)


@few
@given(
    packed=st.sampled_from([gzip.compress, bgzip]),
    at=st.integers(0, 10_000),
    cut=st.integers(0, 30),
    piece=st.binary(max_size=8),
)
def test_damaged_gzip(folder, packed, at, cut, piece):
    content = bytearray(packed(FILES["e.tsv"].encode()))
    at %= len(content) + 1
    content[at : at + cut] = piece
    read(folder, "e.tsv", bytes(content))
