"""What a build costs on top of the model it runs, and what equal model inputs save.

The model has l20's shape and random weights, the genome is random bases: only times and counts
are read from it. Bare model time is taken before and after the build, in the same process, on
the same inputs, with as many threads.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GENES = 4
LINES = 12
SPACING = 20_000

DATASET = """embedders = ["pc"]
[embedders.pc]
type = "plantcaduceus"
checkpoint = "{checkpoint}"
[species.simulated]
genome = "genome.fa"
annotation = "genes.gff3"
{variants}
"""


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock and seconds of all cores."""

    wall: float
    cpu: float


def timed(work: Callable[[], Any]) -> Cost:
    """Time one call."""
    began, used = time.perf_counter(), _cpu()
    work()
    return Cost(time.perf_counter() - began, _cpu() - used)


def _cpu() -> float:
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


def write_inputs(folder: Path, genes: int, checkpoint: Path, *, lines: int = 0) -> Path:
    """FASTA, GFF3, VCF and dataset.toml of a random genome, each contig there twice."""
    rng = np.random.default_rng(0)
    bases = np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, SPACING * (genes + 1))]
    text = bases.tobytes().decode()
    (folder / "genome.fa").write_text(f">chr1\n{text}\n>copy\n{text}\n")
    rows = ["##gff-version 3"]
    for contig in ("chr1", "copy"):
        for i in range(genes):
            start = SPACING * i + SPACING // 2
            place = f"{start + 1}\t{start + 3000}\t.\t{'+-'[i % 2]}\t."
            name = f"{contig}g{i}"
            rows.append(f"{contig}\trandom\tgene\t{place}\tID={name};biotype=protein_coding")
            rows.append(f"{contig}\trandom\tmRNA\t{place}\tID={name}.1;Parent={name}")
            rows.append(f"{contig}\trandom\texon\t{place}\tParent={name}.1")
    (folder / "genes.gff3").write_text("\n".join(rows) + "\n")
    variants = ""
    if lines:
        (folder / "lines.vcf").write_text(_calls(text, genes, lines))
        variants = 'variants.mutants = "lines.vcf"'
    path = folder / "dataset.toml"
    path.write_text(DATASET.format(checkpoint=checkpoint, variants=variants))
    return path


def _calls(text: str, genes: int, lines: int) -> str:
    """One homozygous substitution a line, 1 kb upstream of a gene's start."""
    head = ["##fileformat=VCFv4.2", "##FORMAT=<ID=GT,Number=1,Type=String,Description=Genotype>"]
    names = [f"line{i}" for i in range(lines)]
    head.append(
        "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *names])
    )
    rows = []
    for line in range(lines):
        at = SPACING * (line % genes) + SPACING // 2 - 1000 - 37 * line
        ref = text[at]
        calls = ["1/1" if i == line else "0/0" for i in range(lines)]
        alt = "ACGT"["ACGT".index(ref) - 1]
        rows.append(
            (at, "\t".join(["chr1", str(at + 1), ".", ref, alt, ".", ".", ".", "GT", *calls]))
        )
    return "\n".join([*head, *(row for _, row in sorted(rows))]) + "\n"


def random_checkpoint(folder: Path, **sizes: Any) -> Path:
    """A checkpoint of random weights; without sizes of l20's shape."""
    import torch

    from featurestore.embedders.plantcaduceus import PlantCaduceusConfig, PlantCaduceusForMaskedLM

    torch.manual_seed(0)
    PlantCaduceusForMaskedLM(PlantCaduceusConfig(**sizes)).save_pretrained(folder)
    return folder


def distinct_inputs(store: Path) -> NDArray[np.uint8]:
    """Every distinct model input behind a store, cut again from its own bases."""
    from featurestore.build.shards.recompute import stored_inputs
    from featurestore.build.windows.window_source import WindowSource, lay_down
    from featurestore.store.reader import open_store

    with tempfile.TemporaryDirectory() as folder:
        opened = open_store(store)
        lay_down(Path(folder), stored_inputs(opened, "simulated"), 250)
        source = WindowSource(Path(folder))
        codes = source.bin_inputs(0, source.genes, 512)
        found: NDArray[np.uint8] = np.unique(codes.reshape(-1, 512), axis=0)
        return found


def measure(_data: Path, repeats: int) -> dict[str, float]:
    """Build over bare model time; windows computed over windows stored, for copies and mutants."""
    del repeats  # each part takes minutes: one build between two bare runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = random_checkpoint(folder / "l20")
        return _overhead(folder, checkpoint) | _saved(folder)


def _overhead(folder: Path, checkpoint: Path) -> dict[str, float]:
    from featurestore.build.engine import build
    from featurestore.embedders.registry import make_embedder

    inputs = folder / "one"
    inputs.mkdir()
    path = write_inputs(inputs, GENES, checkpoint)
    embedder = make_embedder("pc", {"type": "plantcaduceus", "checkpoint": str(checkpoint)})
    embedder.load("cpu")
    codes = _windows(inputs)
    bare = [timed(lambda: embedder.embed(codes))]
    whole = timed(lambda: build(path, folder / "one.zarr", device="cpu"))
    bare.append(timed(lambda: embedder.embed(codes)))
    if len(distinct_inputs(folder / "one.zarr")) != len(codes):
        raise RuntimeError("the build and the bare run did not see the same windows")
    idle = _without_model(path, folder / "idle.zarr", embedder.spec.outputs["embedding"])
    cpu, wall = sum(b.cpu for b in bare) / 2, sum(b.wall for b in bare) / 2
    return {
        "model build: distinct windows of 512 bp": float(len(codes)),
        "model build: bare model, CPU-seconds a window": cpu / len(codes),
        "model build: build / bare model, CPU time": whole.cpu / cpu,
        "model build: build / bare model, wall time": whole.wall / wall,
        "model build: all but the model / bare model, CPU time": idle.cpu / cpu,
        "model build: all but the model / bare model, wall time": idle.wall / wall,
        "model build: the two bare runs, second / first, CPU time": bare[1].cpu / bare[0].cpu,
    }


def _without_model(path: Path, store: Path, channels: int) -> Cost:
    """The same build with a model that costs nothing: what is left is reading, windows, writing.

    A difference of two long times drowns in the machine's noise; this does not.
    """
    from featurestore.build.engine import build
    from featurestore.build.shards import tasks
    from featurestore.embedders.plantcaduceus.embedder import PlantCaduceus

    def free(_: PlantCaduceus, codes: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {"embedding": np.zeros((len(codes), channels), np.float32)}

    tasks._embedder.cache_clear()
    original = PlantCaduceus.embed
    PlantCaduceus.embed = free  # type: ignore[method-assign, assignment] # for this one build
    try:
        return timed(lambda: build(path, store, device="cpu"))
    finally:
        PlantCaduceus.embed = original  # type: ignore[method-assign]


def _windows(inputs: Path) -> NDArray[np.uint8]:
    """The distinct windows of the data set, found with a cheap embedder's build."""
    from featurestore.build.engine import build

    store = inputs / "kmer.zarr"
    build(inputs / "dataset.toml", store, embedders=["kmer"])
    return distinct_inputs(store)


def _saved(folder: Path) -> dict[str, float]:
    from featurestore.build.engine import build

    tiny = random_checkpoint(folder / "tiny", d_model=16, n_layer=1)
    inputs = folder / "many"
    inputs.mkdir()
    path = write_inputs(inputs, GENES, tiny, lines=LINES)
    reports: list[dict[str, Any]] = []
    said: list[str] = []
    build(path, folder / "many.zarr", device="cpu", say=said.append,
          on_task=lambda report, *_: reports.append(report))  # fmt: skip
    computed = dict.fromkeys(("reference", "haplotypes"), 0)
    for report in reports:
        if "computed" in report:
            kind = "haplotypes" if "/variants/" in report["task"] else "reference"
            computed[kind] += int(report["computed"])
    windows = 2 * GENES * 40
    return {
        "equal windows: computed / stored, every gene there twice": computed["reference"] / windows,
        "haplotypes: windows computed for a line with one substitution, of 40": (
            computed["haplotypes"] / LINES
        ),
    }
