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


def random_enformer(folder: Path, *, seed: int = 0, **sizes) -> Path:
    """A small Enformer of random weights, as a checkpoint; sizes as in its configuration."""
    import torch

    from featurestore.embedders.enformer import Enformer, EnformerConfig

    torch.manual_seed(seed)
    small = {"dim": 12, "depth": 1, "heads": 2, "dim_divisible_by": 2, "attn_dim_key": 4, "input_bp": 512,
             "target_length": 8, "num_downsamples": 5, "output_heads": {"human": 3}}  # fmt: skip
    model = Enformer(EnformerConfig.preset("tiny", **(small | sizes)))
    for name, tensor in model.named_parameters():
        if "to_out" in name or "rel" in name:  # begins at zero: attention would be told by nothing
            torch.nn.init.normal_(tensor, std=0.3)
    model.save_pretrained(folder)
    return folder
