"""Whole commands: start-up, a build of real data, a build that has nothing to do."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.perf.interleaved import seconds

DATASET = """[regions]
promoter   = {{ anchor = "tss", upstream = 200, downstream = 50 }}
terminator = {{ anchor = "tts", upstream = 170, downstream = 0 }}
bin = 50
[species.arabidopsis_thaliana]
genome     = "{data}/ath_gene_contigs/genome.fa.gz"
annotation = "{data}/ath_gene_contigs/genes.gff3.gz"
expression = "{data}/ath_windows/tpm_leaf.tsv.gz"
families   = "{data}/ath_windows/families_plaza5_hom.tsv.gz"
"""


def run(*words: object) -> None:
    """Run a command of the project to its end."""
    subprocess.run([sys.executable, "-m", *map(str, words)], check=True, capture_output=True)


def measure(data: Path, repeats: int) -> dict[str, float]:
    """Seconds of ``--help``, and of building all 10,773 genes of ``ath_gene_contigs`` twice."""
    figures = {
        "fs --help, seconds": _median(repeats, "featurestore", "--help"),
        "bench --help, seconds": _median(repeats, "benchmarks", "--help"),
    }
    if not (data / "ath_gene_contigs").is_dir():
        print(f"no real data in {data}: the builds are not measured")
        return figures
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dataset.toml"
        path.write_text(DATASET.format(data=data.resolve()))
        words = ("featurestore", "build", path, "--store", Path(folder) / "s.zarr")
        figures["build ath_gene_contigs, onehot + kmer, seconds"] = seconds(lambda: run(*words))
        figures["the same again, nothing to do, seconds"] = _median(repeats, *words)
        verify = ("featurestore", "verify", Path(folder) / "s.zarr")
        figures["fs verify of it, seconds"] = _median(repeats, *verify)
    return figures


def _median(repeats: int, *words: object) -> float:
    return statistics.median(seconds(lambda: run(*words)) for _ in range(repeats))
