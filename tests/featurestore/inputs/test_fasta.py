"""FASTA against a plain reader that goes letter by letter."""

from __future__ import annotations

import gzip
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.inputs.fasta import _Reader, read_fasta, read_genome
from featurestore.inputs.problems import Problems
from featurestore.sequence import iupac
from tests.builders.inputs_files import bgzip, fasta, only

LETTERS = "ACGTNRYSWKMBDHVacgtnryswkmbdhv"


@given(
    st.dictionaries(
        st.text("abcXYZ019_.", min_size=1, max_size=6),
        st.text(LETTERS, max_size=50),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 20),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([bytes, gzip.compress, bgzip]),
)
def test_round_trip(tmp_path_factory, contigs, width, line_end, pack):
    path = tmp_path_factory.mktemp("fasta") / "g.fa"
    path.write_bytes(pack(fasta(contigs, width).replace("\n", line_end).encode()))
    genome = read_genome(path, Problems())
    assert genome is not None
    assert genome.contig_id == list(contigs)
    for i, sequence in enumerate(contigs.values()):
        start, length = int(genome.contig_start[i]), int(genome.contig_length[i])
        assert iupac.decode(genome.code[start : start + length]) == sequence.upper()
    assert genome.code.size == sum(map(len, contigs.values()))
    assert genome.contig_start.dtype == genome.contig_length.dtype == np.int64


def test_id_is_the_first_word_and_the_rest_is_the_description(folder, problems):
    path = folder.write("g.fa", "\n>1 dna:chromosome TAIR10\nAC\n\nGT\n>2\tgene=G1\n>3\nA")
    records = read_fasta(path, problems)
    assert records is not None
    assert records.name == ["1", "2", "3"]
    assert records.description == ["dna:chromosome TAIR10", "gene=G1", ""]
    assert records.length.tolist() == [4, 0, 1]
    assert records.line == [2, 6, 7]


def test_groups_of_records_do_not_matter(folder, problems, monkeypatch):
    contigs = {f"c{i}": "ACGTN"[i % 5] * (i % 40) for i in range(100)}
    path = folder.write("g.fa", fasta(contigs))
    whole = read_genome(path, problems)
    monkeypatch.setattr("featurestore.inputs.fasta._GROUP", 50)
    parts = read_genome(path, problems)
    assert whole is not None
    assert parts is not None
    assert np.array_equal(whole.code, parts.code)
    assert np.array_equal(whole.contig_length, parts.contig_length)


@given(st.data())
def test_where_a_piece_ends_does_not_matter(data):
    """Cut anywhere, also within a header or a line end: records, lines and mistakes stay the same."""
    line_end = data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    lines = data.draw(
        st.lists(st.sampled_from([b"", b">a x y", b">b", b">", b"ACGT", b"n*c", b"A>C", b" ", b"JJ"]), max_size=9)
    )  # fmt: skip
    text = b">first one" + line_end + line_end.join(lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    found = []
    for given_pieces in ([text], pieces):
        problems = Problems()
        reader = _Reader(Path("g.fa"), problems, "contig")
        reader._cr = line_end == b"\r"
        for piece in given_pieces:
            reader.take(piece)
        reader.end()
        records = reader.records()
        told = records and (records.name, records.description, records.line, records.start.tolist(),
                            records.length.tolist(), records.code.tolist())  # fmt: skip
        found.append((told, problems.items))
    assert found[0] == found[1]
    sequence = b"".join(x for x in text.replace(b"\r", b"\n").split(b"\n") if x[:1] != b">")
    if found[0][0]:
        want = sequence.replace(b" ", b"").decode().upper()
        assert iupac.decode(np.array(found[0][0][5], np.uint8)) == want


def test_a_letter_that_is_no_base(folder, problems):
    path = folder.write("g.fa", ">a\nACGT\n>b\nACGT\nAC*T\nJJ\n")
    assert read_genome(path, problems) is None
    problem = only(problems)
    assert problem.file == str(path)
    assert problem.place == "lines 5, 6, 6"
    assert "'*' at base 7 of contig b" in problem.what
    assert "'J' at base 9 of contig b" in problem.what
    assert "replace unknown bases by N" in problem.mend


@pytest.mark.parametrize(
    ("text", "what", "place", "mend"),
    [
        ("", "the file is empty", "", ">id"),
        ("\nACGT\n>a\nAC\n", "sequence before the first '>': 'ACGT'", "line 2", ">id"),
        (">a\nA\n>b\nA\n>a x\nC\n", "contig id given twice: a", "lines 1 and 5", "own id"),
        (">a\nA\n>\nC\n", "without an id", "line 3", "write >id"),
    ],
)
def test_problems(folder, problems, text, what, place, mend):
    path = folder.write("g.fa", text)
    assert read_genome(path, problems) is None
    problem = only(problems)
    assert what in problem.what
    assert problem.place == place
    assert mend in problem.mend
    assert problem.file == str(path)


def test_thirteen_megabases_take_a_moment(folder, problems):
    rng = np.random.default_rng(0)
    bases = rng.choice(np.frombuffer(b"ACGTacgt", np.uint8), 13_000_000).reshape(-1, 80)
    lines = np.concatenate([bases, np.full((len(bases), 1), 10, np.uint8)], axis=1)
    path = folder.write("g.fa", b">chr\n" + lines.tobytes())
    begun = time.process_time()
    genome = read_genome(path, problems)
    assert genome is not None
    assert genome.code.size == bases.size
    assert time.process_time() - begun < 2  # so that 130 Mb take seconds


_PEAK = """
import resource, sys
from pathlib import Path
from featurestore.inputs.fasta import read_genome
from featurestore.inputs.problems import Problems
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
genome = read_genome(Path(sys.argv[1]), Problems())
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024 / genome.code.size, genome.code.size)
"""


@pytest.mark.parametrize(
    "pack", [bytes, partial(gzip.compress, compresslevel=1), partial(bgzip, block=60_000)]
)
def test_a_genome_takes_little_more_memory_than_its_codes(folder, pack):
    bases = 150_000_000
    lines = np.full((bases // 80, 81), ord("A"), np.uint8)
    lines[:, 1::3], lines[:, -1] = ord("c"), 10
    path = folder.write("g.fa", pack(b">chr\n" + lines.tobytes()))
    run = subprocess.run(
        [sys.executable, "-c", _PEAK, str(path)], capture_output=True, text=True, check=True
    )
    times, size = run.stdout.split()
    assert int(size) == bases // 80 * 80
    # 120 MB of temporaries, whatever the genome.
    assert float(times) < 1.1 + 120e6 / bases
