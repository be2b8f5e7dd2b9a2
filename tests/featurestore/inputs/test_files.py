"""Files are read by content: plain, gzip, bgzip, any line ends; damage is told."""

from __future__ import annotations

import gzip
import hashlib
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.inputs.files import file_digest, read_bytes, read_text
from tests.builders.inputs_files import bgzip, only

TEXT = b"".join(b"line %d of a file\n" % i for i in range(200))


@pytest.mark.parametrize(
    "pack",
    [
        lambda x: x,
        gzip.compress,
        bgzip,
        lambda x: bgzip(x, end=True) + bgzip(b""),
        lambda x: gzip.compress(x[:50]) + gzip.compress(x[50:]),
        lambda x: bgzip(x[:70], end=False) + gzip.compress(x[70:]),
    ],
    ids=["plain", "gzip", "bgzip", "bgzip-twice-ended", "gzip-members", "bgzip-then-gzip"],
)
def test_content_decides_and_not_the_suffix(folder, problems, pack):
    for name in ("file.txt", "file.gz"):
        packed = pack(TEXT)
        # bgzip followed by plain gzip lacks the end block at the end, which is a cut file.
        if packed[12:16] == b"BC\x02\x00" and not packed.endswith(bgzip(b"")):
            packed += bgzip(b"")
        assert read_bytes(folder.write(name, packed), problems) == TEXT
    assert not problems.items


@given(st.binary(max_size=2000), st.integers(1, 300))
def test_bgzip_round_trip(tmp_path_factory, content, block):
    from featurestore.inputs.problems import Problems

    path = tmp_path_factory.mktemp("bgzip") / "x"
    path.write_bytes(bgzip(b"#" + content, block))
    assert read_bytes(path, Problems()) == b"#" + content
    assert gzip.decompress(path.read_bytes()) == b"#" + content  # the builder writes real gzip


def test_line_ends_and_byte_order_mark(folder, problems):
    path = folder.write("x", b"\xef\xbb\xbfa\tb\r\nc\rd\n")
    assert read_text(path, problems) == "a\tb\nc\nd\n"


def test_latin_1_is_read(folder, problems):
    assert read_text(folder.write("x", "prot\u00e9ine".encode("latin-1")), problems) == "protéine"


@pytest.mark.parametrize("cut", [1, 9, 200])
def test_gzip_cut_short(folder, problems, cut):
    path = folder.write("genome.fa.gz", gzip.compress(TEXT)[:-cut])
    assert read_bytes(path, problems) is None
    problem = only(problems)
    assert problem.file == str(path)
    assert "cut short" in problem.what
    assert "gzip -t" in problem.mend


def test_bgzip_cut_at_a_block_is_noticed(folder, problems):
    path = folder.write("genome.fa.gz", bgzip(TEXT[:1500], end=False))
    assert read_bytes(path, problems) is None
    assert "end block is missing" in only(problems).what


def test_bgzip_cut_within_a_block(folder, problems):
    assert read_bytes(folder.write("x", bgzip(TEXT)[:-40]), problems) is None
    assert "cut short" in only(problems).what


@pytest.mark.parametrize("pack", [gzip.compress, bgzip])
def test_a_flipped_byte_is_damage(folder, problems, pack):
    raw = bytearray(pack(TEXT))
    raw[40] ^= 0xFF
    assert read_bytes(folder.write("x", bytes(raw)), problems) is None
    assert "damaged" in only(problems).what


def test_other_compression_is_named(folder, problems):
    assert read_bytes(folder.write("x", lzma.compress(TEXT)), problems) is None
    assert "xz" in only(problems).what


def test_missing_file_names_its_neighbour(folder, problems):
    folder.write("genes.gff3.gz", b"")
    assert read_bytes(folder.path / "gene.gff3.gz", problems) is None
    assert "'genes.gff3.gz'" in only(problems).mend


def test_missing_folder_and_folder_itself(folder, problems):
    assert read_bytes(folder.path / "no" / "x", problems) is None
    assert read_bytes(folder.path, problems) is None
    assert "does not exist" in problems.items[0].mend
    assert "folder" in problems.items[1].what


def test_digest_is_that_of_the_bytes_and_follows_a_change(folder):
    path = folder.write("x", b"one")
    assert file_digest(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"other")
    assert file_digest(path) == hashlib.sha256(b"other").hexdigest()
