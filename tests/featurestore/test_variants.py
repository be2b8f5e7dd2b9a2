"""Variant sets: every haplotype reads what its lines read, and only changed bins are stored, once."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import featurestore
from featurestore.build.engine import build
from featurestore.embedders.registry import make_embedder
from featurestore.errors import IncompleteStoreError, InputError, UnknownNameError
from featurestore.inputs.genotypes import MISSING, read_genotypes
from featurestore.inputs.problems import DataSetError
from featurestore.schema import registered
from featurestore.sequence.iupac import N, decode, encode
from featurestore.store.verify import verify
from tests.builders.dataset import write_dataset
from tests.builders.inputs_files import bgzip
from tests.builders.species import random_species
from tests.builders.variants import contig_texts, random_records
from tests.oracles.variants import Record, edited_contig, header
from tests.oracles.windows import window

LINES = ["M1", "M2", "M3", "M4", "M5"]
REGIONS = (("tss", 400, 100), ("tts", 100, 400))
BIN = 100


def tree_digest(root: Path) -> dict[str, str]:
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def write_vcf(path: Path, records, lines=LINES, pack=bytes) -> None:
    text = header(lines) + "".join(r.row() + "\n" for r in records)
    path.write_bytes(pack(text.encode()))


def with_variants(
    folder: Path, one, records, *, mode="iupac", embedders='["onehot", "kmer"]', pack=bytes
) -> Path:
    path = write_dataset(folder, one, embedders=embedders)
    write_vcf(folder / "v.vcf", records, pack=pack)
    given = '"v.vcf"' if mode == "iupac" else f'{{ file = "v.vcf", heterozygous = "{mode}" }}'
    path.write_text(path.read_text() + f"variants.mutants = {given}\n")
    return path


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr("featurestore.schema.SHARD_GENES", 16)
    monkeypatch.setattr("featurestore.schema.SHARD_ROWS", 64)


@pytest.fixture(scope="module", params=["iupac", "haplotypes"])
def built(request, tmp_path_factory):
    one = random_species("plant", genes=36, seed=4)
    records = random_records(one, len(LINES))
    folder = tmp_path_factory.mktemp(request.param)
    path = with_variants(folder / "in", one, records, mode=request.param, pack=bgzip)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featurestore.schema.SHARD_ROWS", 128)
        build(path, folder / "s.zarr")
    return one, records, request.param, folder / "s.zarr"


def gene_ends(one, gene):
    return sorted((int(one.tss[gene]), int(one.tts[gene])))


def test_every_line_reads_its_contig_edited_base_by_base(built):
    one, records, mode, path = built
    store = featurestore.open(path)
    texts, view = contig_texts(one), store.variants("plant", "mutants")
    assert view.heterozygous == mode
    differing = 0
    for line, name in enumerate(LINES):
        for copy in (0, 1):
            for contig, text in texts.items():
                genes = [i for i in range(len(one.gene)) if one.contig[i] == contig]
                ends = [p for i in genes for p in gene_ends(one, i)]
                edited, moved = edited_contig(
                    text, [r for r in records if r.contig == contig], line, copy, mode, ends
                )
                for at, gene in enumerate(genes):
                    low, high = moved[2 * at], moved[2 * at + 1]
                    got = store.variant_features(
                        "plant", "mutants", "onehot", one.gene[gene], name, copy=copy + 1
                    )
                    for region, (anchor, up, down) in enumerate(REGIONS):
                        want = window(
                            edited, low, high - 1, int(one.strand[gene]), anchor, up, down
                        )
                        assert decode(got[region]) == want, (name, copy, one.gene[gene], anchor)
                    differing += view.haplotype_of(gene, name, copy + 1) >= 0
    assert differing > 100


def apply_named(text: str, contig: str, names: str, ends: list[int]) -> tuple[str, list[int]]:
    """The variants that a haplotype names, put into the contig by the oracle."""
    records = []
    for name in names.split(","):
        where, position, alleles = name.split(":")
        ref, alt = alleles.split(">")
        assert where == contig
        records.append(Record(contig, int(position), ref, (alt,), ("1/1",)))
    return edited_contig(text, records, 0, 0, "haplotypes", ends)


def inputs_of(text, low, high, strand, region, input_bp):
    """Model inputs of the bins of one region, by the slow cutter."""
    anchor, up, down = REGIONS[region]
    flank = (input_bp - BIN) // 2
    wide = window(text, low, high - 1, strand, anchor, up + flank, down + input_bp - BIN - flank)
    return [wide[i : i + input_bp] for i in range(0, up + down, BIN)]


@pytest.fixture
def wide(monkeypatch):
    """``random`` reads 30 bp of context on either side of a bin."""
    pytest.importorskip("torch", reason="the random embedder needs torch")
    import dataclasses

    import featurestore.embedders.registry as registry
    from featurestore.build.shards import tasks
    from featurestore.embedders.random_conv import RandomConv

    class Wide(RandomConv):
        def __init__(self, **options):
            super().__init__(**options)
            self.spec = dataclasses.replace(self.spec, input_bp=160)

    original = registry.embedder_class
    monkeypatch.setattr(
        registry, "embedder_class", lambda n: Wide if n == "random" else original(n)
    )
    tasks._embedder.cache_clear()
    yield
    tasks._embedder.cache_clear()


@pytest.mark.parametrize("mode", ["iupac", "haplotypes"])
def test_changed_bins_are_exactly_those_whose_inputs_differ(tmp_path, mode, small_shards, wide):
    one = random_species("plant", genes=24, seed=9)
    path = with_variants(
        tmp_path / "in", one, random_records(one, len(LINES), seed=1), mode=mode,
        embedders='["kmer", "random"]',
    )  # fmt: skip
    build(path, tmp_path / "s.zarr")
    store = featurestore.open(tmp_path / "s.zarr")
    view, texts = store.variants("plant", "mutants"), contig_texts(one)
    assert len(view.haplotype) > 20
    for name in ("kmer", "random"):
        embedder = make_embedder(name, {"type": name})
        embedder.load("cpu")
        size = embedder.spec.input_bp or BIN
        rows = view.changed(name)
        place = np.column_stack([rows.haplotype, rows.gene, rows.region, rows.bin]).tolist()
        want, codes = [], []
        for haplotype in range(len(view.haplotype)):
            gene = int(view.haplotype_gene[haplotype])
            contig, ends, strand = one.contig[gene], gene_ends(one, gene), int(one.strand[gene])
            text, (low, high) = apply_named(
                texts[contig], contig, view.haplotype_variants[haplotype], ends
            )
            for region in range(2):
                new = inputs_of(text, low, high, strand, region, size)
                old = inputs_of(texts[contig], *ends, strand, region, size)
                for bin_, (a, b) in enumerate(zip(new, old, strict=True)):
                    if a != b:
                        want.append([haplotype, gene, region, bin_])
                        codes.append(encode(a))
        assert place == want
        assert [(g, h, r, b) for h, g, r, b in place] == sorted(
            (g, h, r, b) for h, g, r, b in place
        )
        digest = store.array("plant", f"variants/mutants/{name}/input_digest")
        assert [d.tobytes() for d in digest] == [
            hashlib.blake2b(c.tobytes(), digest_size=16).digest() for c in codes
        ]
        expected = embedder.embed(np.stack(codes))["embedding"]
        np.testing.assert_allclose(rows.read().astype(np.float32), expected, rtol=2e-3, atol=2e-3)


def test_features_of_a_line_are_the_references_with_the_changed_bins_put_in(built):
    one, _, _, path = built
    store = featurestore.open(path)
    view, reference = store.variants("plant", "mutants"), store.features("plant", "kmer")
    embedder = make_embedder("kmer", {"type": "kmer"})
    held = view.carriers
    for gene, line, copy in list(zip(held.gene, held.line, held.copy, strict=True))[::7]:
        name, chosen = LINES[line], max(int(copy), 1)
        got = store.variant_features("plant", "mutants", "kmer", one.gene[gene], name, copy=chosen)
        codes = store.variant_features(
            "plant", "mutants", "onehot", one.gene[gene], name, copy=chosen
        )
        want = embedder.embed(codes.reshape(-1, BIN))["embedding"].reshape(got.shape)
        np.testing.assert_allclose(got.astype(np.float32), want, atol=1e-3)
    untouched = one.contig.index("chr3")
    assert not ((held.gene == untouched) & (held.line == 4)).any()
    np.testing.assert_array_equal(
        store.variant_features("plant", "mutants", "kmer", one.gene[untouched], "M5"),
        reference[untouched],
    )
    split = np.flatnonzero(held.copy == 1)[0]
    with pytest.raises(InputError, match="copy=1 or copy=2"):
        store.variant_features(
            "plant", "mutants", "kmer", one.gene[held.gene[split]], LINES[held.line[split]]
        )
    with pytest.raises(UnknownNameError, match="Did you mean"):
        store.variant_features("plant", "mutants", "kmer", one.gene[0], "m1")
    with pytest.raises(UnknownNameError, match="Did you mean 'mutants'"):
        store.variants("plant", "mutant")


def test_equal_variants_share_a_haplotype_and_ids_follow_from_content(built):
    _, _, _, path = built
    view = featurestore.open(path).variants("plant", "mutants")
    pairs = list(zip(view.haplotype_gene.tolist(), view.haplotype_variants.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs) == len(set(view.haplotype.tolist()))
    counted = [
        len({int(x) for x in view.carriers.line[view.carriers.haplotype == h]})
        for h in range(len(pairs))
    ]
    assert view.lines_of_haplotype.tolist() == counted
    assert min(counted) == 1 < max(counted)
    gene, text = pairs[0]
    digest = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
    assert view.haplotype[0] == f"{featurestore.open(path).genes('plant').gene[gene]}:{digest}"


def test_every_reader_reads_the_same_and_the_store_verifies(built):
    _, _, _, path = built
    store, group = featurestore.open(path), zarr.open_group(path, mode="r")
    tree = xr.open_datatree(path, engine="zarr")
    for name in (
        "kmer/embedding",
        "kmer/bin_index",
        "kmer/status",
        "sequence/code",
        "carrier_line",
        "line",
    ):
        full = f"variants/mutants/{name}"
        ours = store.array("plant", full)
        np.testing.assert_array_equal(ours, group[f"plant/{full}"][...])
        np.testing.assert_array_equal(ours, tree[f"plant/{full}"].values)
        assert registered(full).dims == tree[f"plant/{full}"].dims
    some = np.array([130, 3, 64, 3])
    stored = store.stored("plant", "variants/mutants/kmer/embedding")
    np.testing.assert_array_equal(stored.take(some), stored.read()[some])
    assert verify(path).intact


def test_a_flipped_bit_in_a_variant_set_is_found(built, tmp_path):
    import shutil

    store = Path(shutil.copytree(built[3], tmp_path / "s.zarr"))
    for name in ("kmer/embedding/c/1/0", "kmer/gene_index/c/0", "carrier_line/c/0", "zarr.json"):
        victim = store / "plant/variants/mutants" / name
        raw = bytearray(victim.read_bytes())
        raw[len(raw) // 2] ^= 1
        victim.write_bytes(raw)
        assert victim.relative_to(store).as_posix() in {f.file for f in verify(store).findings}
        raw[len(raw) // 2] ^= 1
        victim.write_bytes(raw)


def _small(seed=2, genes=20):
    one = random_species("plant", genes=genes, seed=seed)
    return one, random_records(one, len(LINES), seed=seed)


def test_two_builds_and_an_interrupted_one_give_the_same_bytes(tmp_path, small_shards, monkeypatch):
    from featurestore.build.shards import tasks

    one, records = _small()
    path = with_variants(tmp_path / "in", one, records)
    build(path, tmp_path / "a.zarr")
    build(path, tmp_path / "b.zarr")
    whole = tree_digest(tmp_path / "a.zarr")
    assert whole == tree_digest(tmp_path / "b.zarr")
    assert build(path, tmp_path / "a.zarr").up_to_date

    def break_off(work, task, group, device, lend):
        if task.shard:
            raise OSError("the disk is full")
        return tasks._variant_embed(work, task, group, device, lend)

    with monkeypatch.context() as patch:
        patch.setitem(tasks._KINDS, "variant_embedder", break_off)
        with pytest.raises(IncompleteStoreError, match="disk is full"):
            build(path, tmp_path / "c.zarr")
    result = build(path, tmp_path / "c.zarr")
    assert result.resumed > 0 < result.computed < result.shards
    assert tree_digest(tmp_path / "c.zarr") == whole
    # without the last embedder first: what is there is taken over, variants too
    build(path, tmp_path / "d.zarr", embedders=["onehot"])
    result = build(path, tmp_path / "d.zarr", embedders=["kmer"])
    assert result.taken_over > 0
    assert tree_digest(tmp_path / "d.zarr") == whole


@pytest.fixture
def counting(monkeypatch):
    pytest.importorskip("torch", reason="the random embedder needs torch")
    import featurestore.embedders.registry as registry
    from featurestore.build.shards import tasks
    from featurestore.embedders.random_conv import RandomConv

    class Counting(RandomConv):
        seen: list[bytes] = []  # noqa: RUF012 - shared by all instances on purpose

        def embed(self, codes):
            type(self).seen += [row.tobytes() for row in codes if (row < 4).any()]
            return super().embed(codes)

    original = registry.embedder_class
    monkeypatch.setattr(
        registry, "embedder_class", lambda name: Counting if name == "random" else original(name)
    )
    tasks._embedder.cache_clear()
    yield Counting
    tasks._embedder.cache_clear()


def _digests(store) -> set[bytes]:
    paths = ("random", "variants/mutants/random")
    found = [store.array("plant", f"{p}/input_digest").reshape(-1, 16) for p in paths]
    nothing_to_see = hashlib.blake2b(bytes([N]) * BIN, digest_size=16).digest()
    return {d.tobytes() for d in np.concatenate(found) if d.any()} - {nothing_to_see}


def test_each_distinct_input_is_computed_once_and_a_new_line_only_adds_its_own(
    tmp_path, small_shards, counting
):
    one, records = _small(seed=5)
    fewer = [Record(r.contig, r.position, r.ref, r.alts, (*r.calls[:4], "0/0")) for r in records]
    path = with_variants(tmp_path / "in", one, fewer, embedders='["random"]')
    build(path, tmp_path / "s.zarr")
    first = _digests(featurestore.open(tmp_path / "s.zarr"))
    assert len(counting.seen) == len(set(counting.seen)) == len(first)
    counting.seen = []
    build(with_variants(tmp_path / "in", one, records, embedders='["random"]'), tmp_path / "s.zarr")
    second = _digests(featurestore.open(tmp_path / "s.zarr"))
    fresh = {hashlib.blake2b(c, digest_size=16).digest() for c in counting.seen}
    assert len(counting.seen) == len(fresh)
    assert fresh == second - first
    build(path, tmp_path / "anew.zarr")
    assert tree_digest(tmp_path / "anew.zarr") == tree_digest(tmp_path / "s.zarr")


HEAD = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tA\tB\n"


class TestWhatCannotBeUsed:
    """A gene on the + strand of a contig of A only: TSS before base 1001, TTS after base 1600."""

    def build(self, tmp_path, rows, mode="iupac"):
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        (folder / "g.fa").write_text(">c\n" + "A" * 30_000 + "\n")
        (folder / "a.gff3").write_text(
            "##gff-version 3\nc\tx\tgene\t1001\t1600\t.\t+\t.\tID=g\n"
            "c\tx\tmRNA\t1001\t1600\t.\t+\t.\tID=g.1;Parent=g\nc\tx\texon\t1001\t1600\t.\t+\t.\tParent=g.1\n"
        )
        text = HEAD + "".join(
            "\t".join([*row.split()[:5], ".", ".", ".", *row.split()[5:]]) + "\n" for row in rows
        )
        (folder / "v.vcf.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
        (folder / "dataset.toml").write_text(
            '[regions]\npromoter = { anchor = "tss", upstream = 400, downstream = 100 }\n'
            'terminator = { anchor = "tts", upstream = 100, downstream = 400 }\nbin = 100\n'
            '[species.plant]\ngenome = "g.fa"\nannotation = "a.gff3"\n'
            f'variants.v = {{ file = "v.vcf.gz", heterozygous = "{mode}" }}\n'
        )
        result = build(folder / "dataset.toml", tmp_path / "s.zarr")
        view = featurestore.open(tmp_path / "s.zarr").variants("plant", "v")
        assert verify(tmp_path / "s.zarr").intact
        told = {t["reason"]: t["count"] for t in view.told}
        for reason in told:
            assert any(reason in note for note in result.notes["plant"])
        return view, told

    @pytest.mark.parametrize(
        ("rows", "reason", "count", "left"),
        [
            (["c 900 . A <DEL> GT 1/1 1/1"], "symbolic allele, whose bases the VCF does not give", 1, []),
            (["c 900 . A * GT 1/1 0/0"], "allele * (deleted by another record), taken as the reference here", 1, []),
            (["c 900 . A C,* GT 1/1 1/2"], "allele * (deleted by another record), taken as the reference here", 1,
             ["c:900:A>C", "c:900:A>M"]),
            (["c 900 . A . GT 0/0 0/0"], "no alternative allele", 1, []),
            (["c 900 . A G]c:5] GT 0/1 0/0"], "breakend, which no sequence of one contig holds", 1, []),
            (["c 900 . A C!T GT 0/1 0/0"], "alternative allele with letters that are no bases", 1, []),
            (["c 900 . A C GT ./. 1/."], "missing allele, taken as the reference", 2, ["c:900:A>M"]),
            (["c 900 . A C GQ:GT 9 8:1/1"], "missing allele, taken as the reference", 0, ["c:900:A>C"]),
            (["c 900 . A C GT 0/1/1 1"], "call of more than two alleles, taken as the reference", 1, ["c:900:A>C"]),
            (["c 900 . A C GT 0/0 0|0"], "no line carries it", 1, []),
            (["c 25000 . A C GT 1/1 1/1"], "far from every window", 1, []),
            (["c 900 . A C DP 1 2"], "no GT in FORMAT", 1, []),
            (["c 999 . AAAA A GT 1/1 0/1"], "spans a TSS or TTS, left out in the windows of that gene", 2, []),
            (["c 900 . AAA A GT 1/1 0/0", "c 902 . A C GT 1/1 1/1"],
             "overlaps an earlier variant of the same line, left out in that line", 1, ["c:900:AAA>A", "c:902:A>C"]),
            (["c 900 . A C GT 1/1 0/0", "c 900 . A C GT 1/1 0/0"],
             "overlaps an earlier variant of the same line, left out in that line", 1, ["c:900:A>C"]),
            (["c 900 . A AC GT 1/1 0/0", "c 900 . A AT GT 1/1 0/0"],
             "overlaps an earlier variant of the same line, left out in that line", 1, ["c:900:A>AC"]),
            (["c 900 . AAA A GT 0|1 0/0", "c 902 . A C GT 1|0 0/0"],
             "overlaps an earlier variant of the same line, left out in that line", 1, ["c:900:AAA>A"]),
        ],
    )  # fmt: skip
    def test_is_told_and_what_is_left_is_stored(self, tmp_path, rows, reason, count, left):
        view, told = self.build(tmp_path, rows)
        if count:
            assert told.get(reason) == count, told
        assert sorted(view.haplotype_variants.tolist()) == left

    def test_a_heterozygous_indel_stands_as_two_haplotypes_and_says_so(self, tmp_path):
        rows = ["c 900 . A AC GT 0/1 0/0", "c 910 . A C GT 0/1 0/0"]
        view, told = self.build(tmp_path, rows)
        assert sorted(view.haplotype_variants.tolist()) == ["c:900:A>AC,c:910:A>M", "c:910:A>M"]
        assert view.carriers.copy.tolist() == [1, 2]
        assert view.carriers.zygosity.tolist() == [1, 1]
        assert sorted(told.values()) == [1, 1]
        assert view.haplotype_of(0, "B") == -1

    def test_one_copy_may_read_the_reference(self, tmp_path):
        view, _ = self.build(tmp_path, ["c 900 . A C GT 0|1 1|1"], "haplotypes")
        assert view.carriers.haplotype.tolist() == [-1, 0, 0]
        assert view.carriers.copy.tolist() == [1, 2, 0]
        assert view.carriers.zygosity.tolist() == [1, 1, 0]
        assert view.haplotype_of(0, "A", 1) == -1
        assert view.haplotype_of(0, "A", 2) == view.haplotype_of(0, "B") == 0

    def test_phased_calls_on_other_copies_do_not_overlap(self, tmp_path):
        rows = ["c 900 . AAA A GT 0|1 0/0", "c 902 . A C GT 1|0 0/0"]
        view, told = self.build(tmp_path, rows, "haplotypes")
        assert sorted(view.haplotype_variants.tolist()) == ["c:900:AAA>A", "c:902:A>C"]
        assert not told

    @pytest.mark.parametrize(
        ("row", "what"),
        [
            ("c 900 . C T GT 1/1 0/0", "line 4: REF is not what the genome has: c:900 REF C, genome A"),
            ("c 900 . A T GT 1/1", "line 4: not the genotypes of a record: 1 genotype columns where the header names 2"),
            ("c 900 . A T GT 1/2 0/0", "allele 2 where ALT names 1"),
            ("c 900 . A T GT 1/x 0/0", "'1/x' is no genotype"),
            ("d 900 . A T GT 1/1 0/0", "line 4: a contig that the FASTA lacks: d"),
            ("c 29999 . AAAA T GT 1/1 0/0", "line 4: a variant beyond the end of its contig"),
        ],
    )  # fmt: skip
    def test_mistakes_beyond_the_light_check_name_file_line_and_values(
        self, tmp_path, monkeypatch, row, what
    ):
        monkeypatch.setattr("featurestore.inputs.variants.MOST_RECORDS", 1)
        with pytest.raises(DataSetError) as caught:
            self.build(tmp_path, ["c 950 . A C GT 1/1 0/0", row])
        assert what in str(caught.value)
        assert "v.vcf.gz" in str(caught.value)

    def test_an_unknown_way_to_write_heterozygous_calls_is_refused(self, tmp_path):
        with pytest.raises(DataSetError, match="heterozygous"):
            self.build(tmp_path, [], "both")


@pytest.mark.shared
def test_symbolic_variants_without_lines_give_an_empty_set(tmp_path, shared_data):
    source = shared_data / "ath_windows"
    path = tmp_path / "dataset.toml"
    path.write_text(
        'embedders = ["onehot"]\n[species.arabidopsis_thaliana]\n'
        f'genome = "{source}/genome.fa.gz"\nannotation = "{source}/genes.gff3.gz"\n'
        f'variants.te = "{source}/te_variants.vcf.gz"\n'
    )
    result = build(path, tmp_path / "s.zarr")
    view = featurestore.open(tmp_path / "s.zarr").variants("arabidopsis_thaliana", "te")
    assert (len(view.line), len(view.haplotype), len(view.changed("onehot").gene)) == (0, 0, 0)
    assert sum(t["count"] for t in view.told if "symbolic" in t["reason"]) == 2405
    assert any("symbolic" in note for note in result.notes["arabidopsis_thaliana"])
    assert verify(tmp_path / "s.zarr").intact
    tree = xr.open_datatree(tmp_path / "s.zarr", engine="zarr")
    assert tree["arabidopsis_thaliana/variants/te/sequence"].sizes["row"] == 0


_allele = st.sampled_from([".", "0", "1", "2", "11"])
_call = st.one_of(
    _allele, st.tuples(_allele, st.sampled_from("/|"), _allele).map("".join), st.just("0/1/1")
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_call, min_size=1, max_size=12), st.integers(0, 2), st.integers(0, 2))
def test_genotype_columns_are_those_read_cell_by_cell(calls, before, after):
    cells = [":".join([*["7,8"] * before, c, *["xy"] * after]) for c in calls]
    got = read_genotypes("\t".join(cells).encode(), len(calls), before, 11)
    for i, call in enumerate(calls):
        alleles = [MISSING if a == "." else int(a) for a in call.replace("|", "/").split("/")]
        if len(alleles) > 2:
            assert i in got.polyploid
            alleles = [MISSING]
        assert (got.first[i], got.second[i]) == (alleles[0], alleles[-1])
        if len(alleles) == 2:
            assert got.phased[i] == ("|" in call)
