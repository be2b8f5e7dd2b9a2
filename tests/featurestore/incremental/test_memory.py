"""Three genomes take no more memory than one: a build holds one species at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

GENOME = 24_000_000
_BUILD = """
import resource, sys
from pathlib import Path
from featurestore.build.engine import build
build(Path(sys.argv[1]), Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def write(folder: Path, species: int) -> Path:
    folder.mkdir()
    text = ['embedders = ["onehot"]\n[regions]\npromoter = { anchor = "tss", upstream = 400, downstream = 100 }\nbin = 100']  # fmt: skip
    for number in range(species):
        bases = np.random.default_rng(number).choice(np.frombuffer(b"ACGT", np.uint8), 1_000_000)
        with (folder / f"{number}.fa").open("wb") as file:
            file.write(b">chr1\n" + bases.tobytes() * (GENOME // len(bases)))
        rows = [
            f"chr1\tt\t{kind}\t{at}\t{at + 900}\t.\t+\t.\t{attributes}\n"
            for at in range(1000, GENOME, GENOME // 20)
            for kind, attributes in (("gene", f"ID=G{at}"), ("mRNA", f"ID=G{at}.1;Parent=G{at}"), ("exon", f"Parent=G{at}.1"))
        ]  # fmt: skip
        (folder / f"{number}.gff3").write_text("##gff-version 3\n" + "".join(rows))
        text.append(f'[species.plant_{number}]\ngenome = "{number}.fa"\nannotation = "{number}.gff3"')  # fmt: skip
    (folder / "dataset.toml").write_text("\n".join(text) + "\n")
    return folder / "dataset.toml"


def test_memory_does_not_grow_with_the_number_of_genomes(tmp_path):
    peak = {}
    for species in (1, 3):
        dataset = write(tmp_path / str(species), species)
        run = subprocess.run(
            [sys.executable, "-c", _BUILD, str(dataset), str(tmp_path / f"{species}.zarr")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        peak[species] = int(run.stdout)
    assert peak[3] - peak[1] < GENOME, "two genomes more, less than one of them in memory"
