"""Small models with random weights for tests; nothing that came from training."""

from __future__ import annotations

from pathlib import Path


def random_plantcaduceus(folder: Path, *, seed: int = 0, **sizes) -> Path:
    """A PlantCaduceus checkpoint of random weights; sizes as in its configuration."""
    import torch

    from featurestore.embedders.plantcaduceus import PlantCaduceusConfig, PlantCaduceusForMaskedLM

    torch.manual_seed(seed)
    config = PlantCaduceusConfig(**{"d_model": 16, "n_layer": 2, "ssm_cfg": {"d_state": 4}} | sizes)
    PlantCaduceusForMaskedLM(config).save_pretrained(folder)
    return folder
