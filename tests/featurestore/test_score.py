"""Variant scores: every value is the model's own on a window cut by hand, and no record is lost."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import socket
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore.cli import cli
from featurestore.errors import InputError, StoreLockedError, UnknownNameError
from featurestore.inputs.problems import DataSetError
from featurestore.score import Variant, masked_model, score_variants, score_vcf
from featurestore.score.alleles import REASONS
from featurestore.score.journal import Journal
from featurestore.score.scorer import Scorer
from tests.builders.inputs_files import bgzip

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

WINDOW, INDEX = 64, 31
HEAD = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
PARTNER = str.maketrans("ACGTN", "TGCAN")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Models as small as these gain nothing by threads, and lose much where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_genome() -> dict[str, str]:
    rng = np.random.default_rng(3)
    bases = {n: "".join(rng.choice(list("ACGT"), size)) for n, size in
             (("chr1", 900), ("chr2", 300), ("short", 40), ("one", 1), ("even", 64))}  # fmt: skip
    bases["chr1"] = bases["chr1"][:200] + bases["chr1"][200:260].lower() + bases["chr1"][260:]
    bases["chr1"] = bases["chr1"][:400] + "N" * 30 + "R" + bases["chr1"][431:]
    bases["chr2"] = bases["chr1"][600:800] + bases["chr2"][200:]  # what is repeated is scored once
    return bases


GENOME = random_genome()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random checkpoint with logits that differ: three layers, an odd number."""
    from featurestore.embedders.plantcaduceus import PlantCaduceusConfig, PlantCaduceusForMaskedLM

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = PlantCaduceusForMaskedLM(
            PlantCaduceusConfig(d_model=16, n_layer=3, ssm_cfg={"d_state": 4})
        )
        with torch.no_grad():
            model.backbone.word_embeddings.weight.mul_(30)
            for name, weight in model.named_parameters():
                if name.endswith("A_log"):  # a memory as long as the window
                    weight.fill_(-3)
                if name.endswith(("in_proj.weight", "out_proj.weight")):
                    weight.mul_(3)
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    model.save_pretrained(folder)
    return folder


class Oracle:
    """The model on windows sliced from strings, one at a time."""

    def __init__(self, folder: Path) -> None:
        from featurestore.embedders.plantcaduceus import (
            PlantCaduceusForMaskedLM,
            PlantCaduceusTokenizer,
        )

        self.model = PlantCaduceusForMaskedLM.from_pretrained(folder)
        self.tokenizer = PlantCaduceusTokenizer()

    def probabilities(self, sequence: str, position: int, index: int = INDEX) -> dict[str, float]:
        flank = "N" * WINDOW
        start = WINDOW + position - index
        window = (flank + sequence + flank)[start : start + WINDOW]
        ids = self.tokenizer(window)["input_ids"]
        assert len(ids) == WINDOW
        ids[index] = self.tokenizer.mask_token_id
        with torch.no_grad():
            logits = self.model(torch.tensor([ids])).logits[0, index]
        at = [self.tokenizer.convert_tokens_to_ids(b) for b in "acgt"]
        return dict(zip("ACGT", torch.softmax(logits[at].double(), 0).tolist(), strict=True))

    def llr(self, contig: str, position: int, ref: str, alt: str) -> float:
        found = self.probabilities(GENOME[contig], position)
        return math.log(found[alt.upper()] / found[ref.upper()])


@pytest.fixture(scope="module")
def oracle(tiny):
    return Oracle(tiny)


def other(base: str, by: int = 1) -> str:
    return "ACGT"[("ACGT".index(base.upper()) + by) % 4]


def write_dataset(folder: Path, tiny: Path, genomes=None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = (
        'embedders = ["onehot"]\n[regions]\n'
        'promoter = { anchor = "tss", upstream = 100, downstream = 100 }\nbin = 50\n'
        f'[embedders.pc]\ntype = "plantcaduceus"\ncheckpoint = "{tiny}"\n'
        f'recipe = {{ window = {WINDOW}, span = 50 }}\ndtype = "bf16"\n'
    )
    for name, genome in (genomes or {"plant": GENOME}).items():
        contig = next(iter(genome))
        (folder / f"{name}.fa").write_text("".join(f">{n}\n{s}\n" for n, s in genome.items()))
        gene = [
            f"{contig}\tt\t{kind}\t200\t300\t.\t+\t.\t{what}"
            for kind, what in (
                ("gene", "ID=G"), ("mRNA", "ID=G.1;Parent=G"), ("exon", "Parent=G.1"),
            )
        ]  # fmt: skip
        (folder / f"{name}.gff3").write_text("##gff-version 3\n" + "\n".join(gene) + "\n")
        text += f'[species.{name}]\ngenome = "{name}.fa"\nannotation = "{name}.gff3"\n'
    (folder / "dataset.toml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def dataset(tiny, tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data"), tiny)


def vcf(path: Path, rows, *, head=HEAD, pack=bytes, end="\n") -> Path:
    lines = ["##fileformat=VCFv4.2", '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">']
    lines += [head, *rows]
    path.write_bytes(pack("".join(line + end for line in lines).encode()))
    return path


def row(contig, position, ref, alt, info="DP=3", name=".", rest="") -> str:
    """A line of a VCF; ``position`` is 0-based."""
    return f"{contig}\t{position + 1}\t{name}\t{ref}\t{alt}\t.\tPASS\t{info}{rest}"


def snv(contig, position, by=1, **more) -> str:
    base = GENOME[contig][position]
    return row(contig, position, base, other(base, by), **more)


EDGES = [
    ("chr1", 700), ("chr1", 0), ("chr1", 899), ("chr2", 299), ("short", 20), ("short", 0),
    ("short", 39), ("one", 0), ("chr1", 30), ("chr1", 31), ("chr1", 868), ("chr1", 867),
    ("chr1", 230), ("chr2", 5), ("even", 31), ("even", 32), ("chr1", 399), ("chr1", 433),
]  # fmt: skip
"""Unsorted; at and near both ends, on contigs shorter than a window, soft-masked, beside N."""


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def read(path: Path) -> str:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()


class StrictVcf:
    """A reader that takes nothing but well-formed VCF 4.2 (sections 1.2 to 1.6)."""

    KEY = re.compile(r"[A-Za-z_][0-9A-Za-z_.]*")

    def __init__(self, text: str) -> None:
        lines = text.split("\n")
        assert lines.pop() == ""
        assert lines[0].startswith("##fileformat=VCFv4.")
        at = next(i for i, line in enumerate(lines) if not line.startswith("##"))
        self.meta = lines[:at]
        self.defined = {}
        for line in self.meta:
            structured = re.fullmatch(r"##(\w+)=<(.*)>", line)
            if structured:
                fields = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[^,"]*)(?:,|$)', structured[2])
                assert ",".join(f"{k}={v}" for k, v in fields) == structured[2], line
                assert fields[0][0] == "ID"
                if structured[1] == "INFO":
                    entry = dict(fields)
                    assert entry["ID"] not in self.defined
                    assert entry["Description"].startswith('"')
                    self.defined[entry["ID"]] = (entry["Number"], entry["Type"])
        assert "\t".join(lines[at].split("\t")[:8]) == HEAD
        self.width = len(lines[at].split("\t"))
        self.records = [self._record(line) for line in lines[at + 1 :]]

    def _record(self, line: str):
        columns = line.split("\t")
        assert len(columns) == self.width
        alts = columns[4].split(",")
        info = {}
        for item in [] if columns[7] == "." else columns[7].split(";"):
            key, _, value = item.partition("=")
            assert self.KEY.fullmatch(key)
            assert key not in info
            assert not re.search(r"[\s;=]", value)
            number, kind = self.defined[key]
            values = value.split(",")
            assert len(values) == {"A": len(alts), "1": 1}[number]
            if kind == "Float":
                assert all(v == "." or math.isfinite(float(v)) for v in values)
            info[key] = values
        return columns, info


# What the values are


def test_values_are_the_models_own_on_windows_cut_by_hand(dataset, oracle, tmp_path):
    path = vcf(tmp_path / "v.vcf", [snv(c, p, 1 + i % 3) for i, (c, p) in enumerate(EDGES)])
    summary = score_vcf(dataset, path, out=tmp_path / "o.tsv")
    found = table(read(tmp_path / "o.tsv"))
    assert [(r["contig"], int(r["pos"]) - 1) for r in found] == EDGES
    for r in found:
        expected = oracle.probabilities(GENOME[r["contig"]], int(r["pos"]) - 1)
        ref, alt = r["ref"].upper(), r["alt"]
        assert float(r["llr"]) == pytest.approx(
            math.log(expected[alt] / expected[ref]), abs=2e-5, rel=2e-5
        )
        assert float(r["p_ref"]) == pytest.approx(expected[ref], rel=2e-5)
        assert float(r["p_alt"]) == pytest.approx(expected[alt], rel=2e-5)
        bits = -sum(p * math.log2(p) for p in expected.values())
        assert float(r["entropy"]) == pytest.approx(bits, abs=2e-5)
        assert (r["status"], r["reason"]) == ("scored", ".")
    assert np.ptp([float(r["llr"]) for r in found]) > 0.5  # else nothing would be told apart
    assert (summary.scored, summary.records) == (len(EDGES), len(EDGES))


def test_the_default_window_is_the_models_and_the_variant_stands_at_255(tiny):
    from featurestore.embedders.registry import make_embedder

    model = masked_model(make_embedder("plantcaduceus", {"checkpoint": str(tiny)}))
    assert (model.window, model.mask_index, model.dtype) == (512, 255, "fp32")


def test_fp32_whatever_the_embedder_is_configured_to(dataset, tmp_path):
    path = vcf(tmp_path / "v.vcf", [snv("chr1", 300)])
    plain, low = (
        score_vcf(dataset, path, out=tmp_path / f"{d}.vcf", dtype=d) for d in ("fp32", "bf16")
    )
    assert 'dtype="fp32"' in (tmp_path / "fp32.vcf").read_text()
    assert (plain.model["dtype"], low.model["dtype"]) == ("fp32", "bf16")
    assert plain.model["window"] == WINDOW
    assert plain.model["digest"] == low.model["digest"]


def test_alleles_of_one_position_share_one_window(dataset, oracle, tmp_path):
    base = GENOME["chr1"][500]
    alts = [other(base, i) for i in (1, 2, 3)]
    rows = [row("chr1", 500, base, ",".join([alts[0], base + "A", alts[1], "<DEL>", "*"]))]
    rows += [row("chr1", 500, base, alts[2]), row("chr1", 500, base, alts[0].lower())]
    # The first 200 bases of chr2 stand at 600 of chr1 too.
    rows += [snv("chr1", 700), snv("chr2", 100)]
    summary = score_vcf(dataset, vcf(tmp_path / "v.vcf", rows), out=tmp_path / "o.vcf")
    assert (summary.windows_computed, summary.windows_reused) == (2, 3)
    records = StrictVcf(read(tmp_path / "o.vcf")).records
    llr = records[0][1]["MERISTEM_LLR"]
    assert [v == "." for v in llr] == [False, True, False, True, True]
    assert [v == "." for v in records[0][1]["MERISTEM_PALT"]] == [v == "." for v in llr]
    assert records[0][1]["MERISTEM_NOTE"] == ["indel&symbolic&spanning_deletion"]
    for value, alt in (
        (llr[0], alts[0]),
        (llr[2], alts[1]),
        (records[1][1]["MERISTEM_LLR"][0], alts[2]),
    ):
        assert float(value) == pytest.approx(oracle.llr("chr1", 500, base, alt), abs=2e-5, rel=2e-5)
    assert records[2][1]["MERISTEM_LLR"][0] == llr[0]
    assert records[3][1]["MERISTEM_LLR"] == records[4][1]["MERISTEM_LLR"]


# Strands


def mirrored(rows: list[tuple[str, int, str, str]]):
    genome = {n: s.upper().replace("R", "N").translate(PARTNER)[::-1] for n, s in GENOME.items()}
    return genome, [
        (c, len(GENOME[c]) - 1 - p, r.translate(PARTNER), a.translate(PARTNER))
        for c, p, r, a in rows
    ]


def substitutions():
    return [(c, p, GENOME[c][p].upper(), other(GENOME[c][p])) for c, p in EDGES]


def model_of(tiny):
    from featurestore.embedders.registry import make_embedder

    recipe = {"window": WINDOW, "span": 50}
    return masked_model(
        make_embedder("pc", {"type": "plantcaduceus", "checkpoint": str(tiny), "recipe": recipe})
    )


def test_either_strand_of_one_window_gives_the_same_numbers(oracle):
    """Equivariance: the reverse complement, masked at the mirrored place, gives the same values."""
    sequence = GENOME["chr2"][100:164]
    reverse = sequence.translate(PARTNER)[::-1]
    forward = oracle.probabilities(sequence, INDEX)
    backward = oracle.probabilities(reverse, WINDOW - 1 - INDEX, WINDOW - 1 - INDEX)
    for base, partner in zip("ACGT", "TGCA", strict=True):
        assert forward[base] == pytest.approx(backward[partner], rel=1e-6)


def test_both_strands_make_the_score_symmetric_and_the_one_window_does_not(tiny, oracle):
    genome, variants = {n: s.upper().replace("R", "N") for n, s in GENOME.items()}, substitutions()
    other_genome, other_variants = mirrored(variants)
    model = model_of(tiny)

    def llr(bases, given, strands):
        found = score_variants(model, bases, given, strands=strands)
        return np.array([s.llr for s in found])

    one = llr(genome, variants, "both"), llr(other_genome, other_variants, "both")
    np.testing.assert_allclose(*one, rtol=1e-5, atol=1e-5)
    apart = llr(genome, variants, "window") - llr(other_genome, other_variants, "window")
    assert np.abs(apart).max() > 1e-2  # 255 bases to the left, 256 to the right
    for (contig, position, ref, alt), value in zip(variants, one[0], strict=True):
        expected = []
        for index in (INDEX, INDEX + 1):
            found = oracle.probabilities(genome[contig], position, index)
            expected.append(math.log(found[alt] / found[ref]))
        assert value == pytest.approx(np.mean(expected), abs=2e-5, rel=2e-5)


def test_probabilities_of_both_strands_add_up_to_one(tiny):
    for scored in score_variants(model_of(tiny), GENOME, substitutions(), strands="both"):
        assert sum(scored.probabilities) == pytest.approx(1, abs=1e-12)
        assert scored.llr == pytest.approx(math.log(scored.p_alt / scored.p_ref), abs=1e-12)


def test_strands_is_one_of_two(tiny):
    with pytest.raises(InputError, match="window or both"):
        list(score_variants(model_of(tiny), GENOME, substitutions(), strands="forward"))


# A value does not depend on its neighbours


def test_values_do_not_depend_on_neighbours_or_order(tiny):
    model, variants = model_of(tiny), substitutions()
    whole = {s.variant: s.llr for s in score_variants(model, GENOME, variants, batch=4)}
    for part in (variants[:1], variants[3:8], variants[::-1]):
        for scored in score_variants(model, GENOME, part, batch=4):
            assert scored.llr == whole[scored.variant]  # to the bit
    for batch in (1, 7, 64):
        for scored in score_variants(model, GENOME, variants, batch=batch):
            assert scored.llr == pytest.approx(whole[scored.variant], abs=1e-5)


class CountingModel:
    """Probabilities that follow from the window alone, by arithmetic; counts what it is asked."""

    window, mask_index, dtype, batch = 20, 9, "fp32", 4
    facts = {"type": "counting", "checkpoint": "none", "digest": "0"}  # noqa: RUF012

    def __init__(self, most: int = 1000, stop_after: int | None = None) -> None:
        self.most, self.stop_after, self.shapes = most, stop_after, []

    def load(self, device):
        pass

    def log_probabilities(self, codes):
        if len(codes) > self.most:
            raise MemoryError
        if self.stop_after is not None and len(self.shapes) >= self.stop_after:
            raise KeyboardInterrupt
        self.shapes.append(len(codes))
        seen = np.delete(codes.astype(float), self.mask_index, axis=1)
        logits = seen @ np.sin(np.arange(19 * 4).reshape(19, 4))
        return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def test_a_batch_that_does_not_fit_is_halved_and_the_work_goes_on(caplog):
    variants = substitutions()
    small, large = CountingModel(most=2), CountingModel()
    one = [s.llr for s in score_variants(small, GENOME, variants)]
    two = [s.llr for s in score_variants(large, GENOME, variants)]
    assert one == pytest.approx(two, abs=1e-12)
    assert set(small.shapes) == {2}
    assert set(large.shapes) == {4}  # the last one too
    assert "out of memory" in caplog.text


def test_numbers_that_are_none_are_refused():
    model = CountingModel()
    model.log_probabilities = lambda codes: np.full((len(codes), 4), np.nan)
    with pytest.raises(Exception, match="--dtype fp32"):
        list(score_variants(model, GENOME, substitutions()))


# No record is lost


def mixed_rows() -> list[str]:
    base = GENOME["chr1"][100].upper()
    three = GENOME["chr1"][110:113]
    return [
        snv("chr1", 100, name="rs1"),
        row("chr1", 110, three, three[0]),
        row("chr1", 110, three[0], three),
        row("chr1", 110, three[:2], other(three[0]) + other(three[1])),
        row("chr1", 110, three[:2], three[0] + other(three[1])),
        row("chr1", 100, base, "<DEL>", info="END=200;DP=1"),
        row("chr1", 100, base, "*"),
        row("chr1", 100, base, f"{base}[chr2:20["),
        row("chr1", 100, base, "."),
        row("chr1", 100, base, "<*>,<NON_REF>"),
        row("chr1", 100, base, base),
        row("chr1", 100, "N", "A"),
        row("chr1", 100, base, "Y"),
        row("chr1", 100, other(base), other(base, 2)),
        row("chrX", 100, "A", "C", info="."),
        row("chr2", 300, "A", "C"),
        row("chr2", -1, "N", "A"),
        row("chr1", 430, "A", "C"),
        row("chr1", 430, "C", "A"),
        snv("short", 20, info="."),
        row("chr1", 110, three, three[0]),
    ]  # fmt: skip


EXPECTED = [
    "", "indel", "indel", "mnv", "padded_snv", "symbolic", "spanning_deletion", "breakend", "no_alt",
    "symbolic symbolic", "same_as_ref", "ref_ambiguous", "alt_ambiguous", "ref_mismatch",
    "contig_unknown", "off_contig", "off_contig", "", "ref_mismatch", "", "indel",
]  # fmt: skip
TOUCHED = [0, 11, 12, 13, 14, 15, 16, 17, 18, 19]


def more_snvs(n: int = 20) -> list[str]:
    return [snv("chr1", 500 + i) for i in range(n)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bgzip])
def test_every_record_comes_out_as_it_came_in(dataset, tmp_path, pack, end):
    rows = [r + "\tGT:DP\t0/1:3\t./." for r in [*mixed_rows(), *more_snvs()]]
    path = vcf(tmp_path / "v.vcf", rows, pack=pack, end=end, head=HEAD + "\tFORMAT\tS1\tS 2")
    # END is not declared in the file's own header, which is not ours to mend.
    score_vcf(dataset, path, out=tmp_path / "o.vcf")
    text = (tmp_path / "o.vcf").read_bytes().decode()
    lines = [line for line in text.split(end) if line and not line.startswith("#")]
    assert len(lines) == len(rows)
    assert text.count("\r") == (text.count("\n") if end == "\r\n" else 0)
    for i, (came, went) in enumerate(zip(rows, lines, strict=True)):
        before, after = came.split("\t"), went.split("\t")
        assert before[:7] + before[8:] == after[:7] + after[8:]
        if i in TOUCHED or i >= len(EXPECTED):
            kept = [f for f in after[7].split(";") if not f.startswith("MERISTEM_")]
            assert (";".join(kept) or ".") == before[7]
            assert "MERISTEM_" in after[7]
        else:
            assert came == went
    assert text.split(end)[:2] == ["##fileformat=VCFv4.2", '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">']  # fmt: skip


def test_the_annotated_vcf_is_well_formed(dataset, tmp_path):
    rows = [r.replace("END=200;", "") for r in [*mixed_rows(), *more_snvs()]]
    score_vcf(dataset, vcf(tmp_path / "v.vcf", rows), out=tmp_path / "o.vcf")
    found = StrictVcf(read(tmp_path / "o.vcf"))
    assert found.defined["MERISTEM_LLR"] == ("A", "Float")
    assert any(line.startswith("##meristem_score=<ID=score,") for line in found.meta)
    notes = {i: r[1]["MERISTEM_NOTE"][0] for i, r in enumerate(found.records) if "MERISTEM_NOTE" in r[1]}  # fmt: skip
    assert notes == {
        i: EXPECTED[i] or "genome_ambiguous" for i in TOUCHED if EXPECTED[i] or i == 17
    }
    # Once more over its own output: nothing stands twice.
    score_vcf(dataset, tmp_path / "o.vcf", out=tmp_path / "again.vcf")
    assert read(tmp_path / "again.vcf") == read(tmp_path / "o.vcf")


def test_a_table_has_a_row_for_each_allele_with_its_reason(dataset, tmp_path):
    path = vcf(tmp_path / "v.vcf", [*mixed_rows(), *more_snvs()])
    summary = score_vcf(dataset, path, out=tmp_path / "o.tsv.gz")
    found = table(read(tmp_path / "o.tsv.gz"))
    reasons = [word for words in EXPECTED for word in (words.split() or [""])]
    told = [r["reason"].replace(".", "") for r in found]
    remark = reasons.index("") + 0
    assert found[remark]["id"] == "rs1"
    assert [t if t != "genome_ambiguous" else "" for t in told] == reasons + [""] * 20
    assert all((r["llr"] == "NA") == (r["status"] == "not_scored") for r in found)
    counts = {f["reason"].partition(":")[0]: f["count"] for f in summary.not_scored}
    assert counts == {r: reasons.count(r) for r in reasons if r}
    assert summary.alleles == len(found) == summary.scored + sum(counts.values())
    assert set(counts) <= set(REASONS)
    mismatch = next(f for f in summary.not_scored if f["reason"].startswith("ref_mismatch"))
    assert re.search(r"v\.vcf:17 chr1:101 [ACGT]>[ACGT] \(genome [ACGT]\)", mismatch["examples"][0])


def test_chunks_do_not_show(dataset, tmp_path, monkeypatch):
    path = vcf(tmp_path / "v.vcf", [*mixed_rows(), *more_snvs()])
    score_vcf(dataset, path, out=tmp_path / "a.vcf")
    monkeypatch.setattr("featurestore.score.vcf.MOST_RECORDS", 3)
    monkeypatch.setattr("featurestore.score.scorer.MOST_HELD", 2)
    score_vcf(dataset, path, out=tmp_path / "b.vcf")
    assert read(tmp_path / "a.vcf") == read(tmp_path / "b.vcf")


def test_files_end_in_gz_are_bgzip(dataset, tmp_path):
    path = vcf(tmp_path / "v.vcf", more_snvs())
    score_vcf(dataset, path, out=tmp_path / "o.vcf.gz")
    raw = (tmp_path / "o.vcf.gz").read_bytes()
    assert raw[12:16] == b"BC\x02\x00"
    assert raw.endswith(bgzip(b""))
    score_vcf(dataset, tmp_path / "o.vcf.gz", out=tmp_path / "again.vcf.gz")
    assert (tmp_path / "again.vcf.gz").read_bytes() == raw


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([snv("chr1", 500), row("chr1", 510, "A", "<DEL>")], id="no SNV after another record"),
        pytest.param([row("chr1", 510, GENOME["chr1"][510:513], GENOME["chr1"][510]), snv("chr1", 520)], id="a deletion"),
        pytest.param([snv("short", 5), snv("one", 0)], id="a contig shorter than the window"),
        pytest.param([snv("chr2", 50), snv("chr1", 700), snv("chr2", 40), snv("chr1", 10)], id="unsorted"),
        pytest.param([row("chr1", 510, "A", "<DEL>"), row("chr1", 520, "A", ".")], id="no SNV at all"),
        pytest.param([], id="no record"),
    ],
)  # fmt: skip
def test_what_stops_the_original_script_does_not_stop_this(dataset, oracle, tmp_path, rows):
    score_vcf(dataset, vcf(tmp_path / "v.vcf", rows), out=tmp_path / "o.vcf")
    records = StrictVcf(read(tmp_path / "o.vcf")).records
    assert [c[:5] for c, _ in records] == [r.split("\t")[:5] for r in rows]
    for columns, info in records:
        is_snv = columns[3] in "ACGT" and columns[4] in "ACGT" and columns[4] != "."
        assert ("MERISTEM_LLR" in info) == is_snv
        if is_snv:
            expected = oracle.llr(columns[0], int(columns[1]) - 1, columns[3], columns[4])
            assert float(info["MERISTEM_LLR"][0]) == pytest.approx(expected, abs=2e-5, rel=2e-5)


field = st.text(alphabet="ACGTNacgtR.,*<>[]:DEL0", max_size=6).filter(bool)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.sampled_from([*GENOME, "other"]), st.integers(-1, 950), field, field)))
def test_no_record_whatever_stops_it_or_is_lost(tmp_path, dataset, monkeypatch, given_rows):
    monkeypatch.setattr("featurestore.score.check.MOST_MISMATCHES", 1.0)
    monkeypatch.setattr("featurestore.score.vcf.masked_model", lambda *_, **__: CountingModel())
    rows = [snv("chr1", 500), *(row(*r) for r in given_rows)]
    path = vcf(tmp_path / "v.vcf", rows)
    score_vcf(dataset, path, out=tmp_path / "o.vcf")
    records = StrictVcf(read(tmp_path / "o.vcf")).records
    assert [c[:7] for c, _ in records] == [r.split("\t")[:7] for r in rows]
    summary = score_vcf(dataset, path)
    assert len(summary.scores) == summary.alleles == sum(len(c[4].split(",")) for c, _ in records)


# Mistakes


def problem(call, *parts):
    with pytest.raises(DataSetError) as caught:
        call()
    for part in parts:
        assert part in str(caught.value), str(caught.value)
    assert caught.value.exit_code == 2


def test_another_assembly_is_an_error_with_examples(dataset, tmp_path):
    rows = [row("chr1", p, other(GENOME["chr1"][p]), GENOME["chr1"][p]) for p in range(500, 510)]
    path = vcf(tmp_path / "v.vcf", rows)
    problem(
        lambda: score_vcf(dataset, path, out=tmp_path / "o.vcf"),
        "10 of 10 SNVs", "probably differ", "v.vcf:4 chr1:501 REF", "same assembly",
    )  # fmt: skip
    assert not (tmp_path / "o.vcf").exists()


@pytest.mark.parametrize(
    ("shift", "word"), [(-1, "count from 0"), (1, "one too large"), (0, "reverse strand")]
)
def test_positions_off_by_one_and_alleles_of_the_other_strand_are_told_as_such(
    dataset, tmp_path, shift, word
):
    rows = []
    for p in range(500, 600):
        base = GENOME["chr1"][p]
        ref = base if shift else base.translate(PARTNER)
        rows.append(row("chr1", p + shift, ref, other(ref)))
    problem(lambda: score_vcf(dataset, vcf(tmp_path / "v.vcf", rows)), word)


def test_contigs_that_do_not_meet_are_told_with_examples_of_either_side(dataset, tmp_path):
    path = vcf(tmp_path / "v.vcf", [row("1", 5, "A", "C"), row("2", 5, "A", "C")])
    problem(
        lambda: score_vcf(dataset, path),
        "line 4", "1, 2", "chr1, chr2, short", "1 = chr1", "--rename-chrs",
    )  # fmt: skip
    path = vcf(tmp_path / "w.vcf", [*more_snvs(), row("Chr1", 5, "A", "C")])
    summary = score_vcf(dataset, path)
    assert summary.scored == 20
    assert "Chr1 = chr1" in "\n".join(summary.sentences())
    assert "1 × contig_unknown" in "\n".join(summary.sentences())


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "no VCF header line"),
        (b"chr1\t5\t.\tA\tC\t.\t.\t.\n", "no VCF header line"),
        (f"{HEAD}\nchr1 5 . A C . . .\n".encode(), "not a VCF record"),
        (f"{HEAD}\nchr1\tx\t.\tA\tC\t.\t.\t.\n".encode(), "line 2"),
        (f"{HEAD}\nchr1\t5\t.\tA\tC\n".encode(), "CHROM, POS"),
        (gzip.compress(f"{HEAD}\n".encode() * 99, mtime=0)[:-9], "cut short"),
        (bgzip(f"{HEAD}\n".encode(), end=False), "end block"),
    ],
)
def test_what_is_no_vcf_is_told(dataset, tmp_path, content, part):
    path = tmp_path / "v.vcf"
    path.write_bytes(content)
    problem(lambda: score_vcf(dataset, path), part, "v.vcf")


def test_a_header_without_fileformat_and_with_a_byte_order_mark(dataset, tmp_path):
    line = snv("chr1", 500, info=".")  # without a line feed at the end
    (tmp_path / "v.vcf").write_bytes(b"\xef\xbb\xbf" + f"{HEAD}\n\n{line}".encode())
    score_vcf(dataset, tmp_path / "v.vcf", out=tmp_path / "o.vcf")
    text = read(tmp_path / "o.vcf")
    assert text.startswith("##fileformat=VCFv4.2\n")
    assert len(StrictVcf(text + "\n").records) == 1


def test_outputs_that_cannot_be_are_refused_before_any_work(dataset, tmp_path):
    path = vcf(tmp_path / "v.vcf", more_snvs())
    for out, part in (
        ("v.vcf", "the VCF that is read"),
        ("o.bcf", "end in one of"),
        ("no/o.vcf", "does not exist"),
    ):
        with pytest.raises(InputError, match=part):
            score_vcf(dataset, path, out=tmp_path / out)


# Which embedder, which species


def test_embedders_by_name_by_type_and_unknown_ones(dataset, tiny, tmp_path):
    path = vcf(tmp_path / "v.vcf", more_snvs(2))
    named = score_vcf(dataset, path, embedder="pc")
    assert named.model["embedder"] == "pc"
    assert score_vcf(dataset, path).scores == named.scores
    typed = score_vcf(dataset, path, embedder="plantcaduceus", checkpoint=str(tiny))
    assert typed.model["window"] == 512
    assert typed.model["digest"] == named.model["digest"]
    with pytest.raises(UnknownNameError, match="Did you mean 'pc'"):
        score_vcf(dataset, path, embedder="pcc")
    with pytest.raises(UnknownNameError, match="scores variants"):
        score_vcf(dataset, path, embedder="kmer")
    with pytest.raises(InputError, match="checkpoint"):
        score_vcf(dataset, path, embedder="plantcaduceus")


def test_of_several_species_the_one_whose_contigs_meet(tiny, tmp_path):
    two = {"plant": GENOME, "weed": {"w1": GENOME["chr1"], "chr2": GENOME["chr2"]}}
    folder = write_dataset(tmp_path / "d", tiny, two)
    assert score_vcf(folder, vcf(tmp_path / "a.vcf", [snv("chr1", 5)])).species == "plant"
    path = vcf(tmp_path / "b.vcf", [snv("chr2", 5)])
    with pytest.raises(InputError, match="--species: plant, weed"):
        score_vcf(folder, path)
    assert score_vcf(folder, path, species="weed").species == "weed"
    with pytest.raises(UnknownNameError, match="Did you mean 'weed'"):
        score_vcf(folder, path, species="weeds")


def test_no_network_is_asked(dataset, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert score_vcf(dataset, vcf(tmp_path / "v.vcf", more_snvs(2))).scored == 2


def test_a_store_needs_no_file_beside_it(tiny, tmp_path, monkeypatch):
    from featurestore.build.engine import build

    folder = write_dataset(tmp_path / "d", tiny)
    path = vcf(tmp_path / "v.vcf", [*mixed_rows(), *more_snvs()])
    score_vcf(folder, path, out=tmp_path / "a.vcf")
    build(folder / "dataset.toml", tmp_path / "s.zarr", embedders=("pc",))
    for file in folder.iterdir():
        file.unlink()
    monkeypatch.setattr("featurestore.score.genome.BLOCK", 100)
    monkeypatch.setattr("featurestore.score.genome.MOST_BLOCKS", 2)
    store = tmp_path / "s.zarr"
    score_vcf(store, path, embedder="pc", checkpoint=str(tiny), out=tmp_path / "b.vcf")
    assert read(tmp_path / "a.vcf") == read(tmp_path / "b.vcf")
    # The store knows the name of the weights' folder, not where it lies.
    with pytest.raises(InputError, match="--checkpoint"):
        score_vcf(store, path, embedder="pc")


def test_other_weights_than_the_stores_are_told(tiny, tmp_path):
    from featurestore.build.engine import build
    from featurestore.embedders.plantcaduceus import PlantCaduceusForMaskedLM

    folder = write_dataset(tmp_path / "d", tiny)
    build(folder / "dataset.toml", tmp_path / "s.zarr", embedders=("pc",))
    model = PlantCaduceusForMaskedLM.from_pretrained(tiny)
    with torch.no_grad():
        model.backbone.norm_f.weight.mul_(2)
    model.save_pretrained(tmp_path / "other")
    path = vcf(tmp_path / "v.vcf", more_snvs(2))
    summary = score_vcf(tmp_path / "s.zarr", path, checkpoint=str(tmp_path / "other"))
    assert any("other weights" in note for note in summary.notes)


# Stopped and started again


def test_a_stopped_run_goes_on_where_it_was(dataset, tmp_path, monkeypatch):
    path = vcf(tmp_path / "v.vcf", [*mixed_rows(), *more_snvs(40)])
    model = CountingModel()
    monkeypatch.setattr("featurestore.score.vcf.masked_model", lambda *_, **__: model)
    monkeypatch.setattr("featurestore.score.vcf.MOST_RECORDS", 16)
    whole = score_vcf(dataset, path, out=tmp_path / "whole.vcf")
    model = CountingModel(stop_after=7)
    with pytest.raises(KeyboardInterrupt):
        score_vcf(dataset, path, out=tmp_path / "o.vcf")
    journal = tmp_path / ".o.vcf.journal"
    assert journal.exists()
    assert not (tmp_path / "o.vcf").exists()
    journal.write_bytes(journal.read_bytes()[:-30])  # killed while writing: the last row is torn
    model = CountingModel()
    again = score_vcf(dataset, path, out=tmp_path / "o.vcf")
    assert again.windows_resumed > 10
    assert again.windows_resumed + again.windows_computed == whole.windows_computed
    assert read(tmp_path / "o.vcf") == read(tmp_path / "whole.vcf")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.vcf", "v.vcf", "whole.vcf"]


def test_a_journal_of_something_else_is_not_believed(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "featurestore.score.vcf.masked_model", lambda *_, **__: CountingModel(stop_after=3)
    )
    path = vcf(tmp_path / "v.vcf", more_snvs(40))
    with pytest.raises(KeyboardInterrupt):
        score_vcf(dataset, path, out=tmp_path / "o.vcf")
    monkeypatch.setattr("featurestore.score.vcf.masked_model", lambda *_, **__: CountingModel())
    other_path = vcf(tmp_path / "w.vcf", [snv("chr2", 9), *more_snvs(3)])
    assert score_vcf(dataset, other_path, out=tmp_path / "o.vcf").windows_resumed == 0
    score_vcf(dataset, other_path, out=tmp_path / "fresh.vcf")
    assert read(tmp_path / "o.vcf") == read(tmp_path / "fresh.vcf")


def test_two_runs_do_not_write_one_output(tmp_path):
    first = Journal(tmp_path / "j", {"a": 1})
    with pytest.raises(StoreLockedError, match="another run"):
        Journal(tmp_path / "j", {"a": 1})
    first.close(remove=True)


def test_remembered_windows_are_bounded(monkeypatch):
    from featurestore.score.genome import bases_of

    monkeypatch.setattr("featurestore.score.scorer.MOST_HELD", 5)
    scorer = Scorer(CountingModel(), bases_of(GENOME))
    scorer.log_probabilities([("chr1", p) for p in range(100, 150)])
    assert len(scorer._held) == 5


# The command and the library


def run(*words):
    return CliRunner().invoke(cli, ["score", *map(str, words)])


def test_the_table_goes_to_stdout_and_what_is_told_to_stderr(dataset, tmp_path):
    path = vcf(tmp_path / "v.vcf", [*mixed_rows(), *more_snvs()])
    result = run(dataset, "--variants", path, "--embedder", "pc")
    assert result.exit_code == 0, result.stderr
    score_vcf(dataset, path, out=tmp_path / "o.tsv")
    assert result.stdout == read(tmp_path / "o.tsv")
    assert "23 of 42 alleles in 41 records scored" in result.stderr
    assert "ref_mismatch: REF is not what the genome has" in result.stderr


def test_facts_as_json(dataset, tmp_path):
    path = vcf(tmp_path / "v.vcf", [*mixed_rows(), *more_snvs()])
    result = run(dataset / "dataset.toml", "--variants", path, "--json", "--strands", "both")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["model"]["strands"] == "both"
    assert facts["model"]["mask_index"] == INDEX
    assert len(facts["scores"]) == facts["alleles"] == 42
    written = run(dataset, "--variants", path, "--json", "--out", tmp_path / "o.vcf")
    assert json.loads(written.stdout)["scores"] == []


def test_mistakes_end_with_code_2_and_no_output(dataset, tmp_path):
    for words in (
        (dataset, "--variants", tmp_path / "none.vcf"),
        (tmp_path / "nothing", "--variants", tmp_path / "none.vcf"),
        (tmp_path, "--variants", tmp_path / "none.vcf"),
    ):
        result = run(*words)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        assert "Error: " in result.stderr


def test_substitutions_from_a_program(tiny, oracle):
    """Every substitution of a stretch, as a map of its bases."""
    model = model_of(tiny)
    stretch = [
        Variant("chr2", p, GENOME["chr2"][p], alt)
        for p in range(10, 14) for alt in "ACGT" if alt != GENOME["chr2"][p]
    ]  # fmt: skip
    found = list(score_variants(model, GENOME, stretch))
    assert [s.variant for s in found] == stretch
    for scored in found:
        v = scored.variant
        expected = oracle.probabilities(GENOME["chr2"], v.position)
        assert scored.probabilities == pytest.approx(tuple(expected.values()), abs=1e-6)
        assert scored.llr == pytest.approx(math.log(expected[v.alt] / expected[v.ref]), abs=2e-5)
    wrong = next(score_variants(model, GENOME, [("chr2", 10, other(GENOME["chr2"][10]), "A")]))
    assert wrong.reason in {"ref_mismatch", "same_as_ref"}
    assert math.isnan(wrong.llr)
    with pytest.raises(InputError, match="base 3"):
        next(score_variants(model, {"x": "AC!"}, [("x", 0, "A", "C")]))
