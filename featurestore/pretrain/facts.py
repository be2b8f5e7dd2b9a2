"""What a finished run leaves beside its weights: settings, data, split and curve as JSON."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from featurestore.pretrain import state

if TYPE_CHECKING:
    from featurestore.pretrain.train import Trainer

FILE: Final = "pretraining.json"


def run_facts(trainer: Trainer) -> dict[str, Any]:
    """All that is known of a run."""
    import numpy
    import transformers

    run, model = trainer.run, trainer.model
    return {
        **trainer.identity,
        "split": trainer.split.facts,
        "steps": run.step, "tokens": run.tokens, "seconds": round(run.seconds, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": str(trainer.device), "threads": torch.get_num_threads(),
        "curve": run.curve,
        "packages": {
            "torch": torch.__version__, "transformers": transformers.__version__, "numpy": numpy.__version__,
        },
    }  # fmt: skip


def write_model(trainer: Trainer) -> None:
    """Write weights, configuration and facts; each file whole or not at all."""
    trainer.model.eval()
    own = dict(trainer.model.named_parameters())
    with torch.no_grad():
        kept = {k: p.detach().clone() for k, p in own.items()}
        if trainer.settings.average:
            for key, parameter in own.items():
                parameter.copy_(trainer.optimiser.mean[key])
        with tempfile.TemporaryDirectory(dir=trainer.folder, prefix=".model-") as folder:
            trainer.model.save_pretrained(folder)
            for name in ("config.json", "model.safetensors"):
                state.write_bytes(trainer.folder / name, (Path(folder) / name).read_bytes())
        for key, parameter in own.items():
            parameter.copy_(kept[key])
    state.write_json(trainer.folder / FILE, run_facts(trainer))
