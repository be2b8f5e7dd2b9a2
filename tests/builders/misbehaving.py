"""Makes an embedder plugin, installed as any other, that fails or dies on one word of bases."""

from __future__ import annotations

from pathlib import Path

MODULE = '''
import os
import time
import numpy as np
from featurestore.embedders.base import EmbedderSpec

class Misbehaving:
    """Simulated: mean base, and what it is told to do where it meets ``word``."""

    def __init__(self, word="", how="", seconds=0.0, seen="") -> None:
        self.word, self.how, self.seconds, self.seen = word, how, seconds, seen
        self.spec = EmbedderSpec(type="misbehaving", outputs={"embedding": 2}, input_bp=100, batch=16)

    def load(self, device):
        if self.seen:
            with open(self.seen, "a") as file:
                file.write(f"{os.getpid()}\\n")

    def embed(self, codes):
        time.sleep(self.seconds)
        if self.word:
            word = bytes("ACGT".index(b) for b in self.word)
            if any(word in row.tobytes() for row in codes):
                if self.how == "die":
                    os._exit(7)
                if self.how == "hoard":
                    hoard = [np.ones(1 << 24, np.uint8) for _ in range(400)]
                raise ArithmeticError("met the word")
        return {"embedding": np.stack([codes.mean(1), codes.std(1)], axis=1).astype(np.float16)}
'''


def install(folder: Path) -> Path:
    """Write module and entry point; to be put on ``sys.path``."""
    folder.mkdir()
    (folder / "misbehaving_plugin.py").write_text(MODULE)
    info = folder / "misbehaving_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: misbehaving-plugin\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(
        "[meristem.embedders]\nmisbehaving = misbehaving_plugin:Misbehaving\n"
    )
    return folder
