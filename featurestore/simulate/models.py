"""Models by name for a simulation without a data set: their specification, without their weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from featurestore.embedders.base import Embedder, EmbedderSpec
from featurestore.embedders.recipe import make_recipe
from featurestore.embedders.registry import embedder_class, make_embedder
from featurestore.errors import InputError, unknown_name


@dataclass(frozen=True)
class Architecture:
    """Sizes of a released model (its ``config.json``)."""

    channels: int
    layers: int


ARCHITECTURES: Final = {
    "plantcaduceus-l20": Architecture(384, 20),
    "plantcaduceus-l24": Architecture(512, 24),
    "plantcaduceus-l28": Architecture(768, 28),
    "plantcaduceus-l32": Architecture(1024, 32),
}
"""Released PlantCaduceus models (Zhai et al. 2025)."""


def architecture(name: str) -> Architecture | None:
    """Sizes of a released model, or None for any other name."""
    return ARCHITECTURES.get(name.lower().replace("_", "-"))


def spec_of_model(name: str, recipe: str, bin_bp: int) -> EmbedderSpec:
    """What an embedder gives, without its weights.

    Parameters
    ----------
    name : str
        A released model, or the type of an embedder that needs no settings.
    recipe : str
        Of a released model, see :mod:`featurestore.embedders.recipe`.
    """
    if (sizes := architecture(name)) is None:
        try:
            embedder_class(name)
        except InputError:
            raise unknown_name("embedder", name, [*ARCHITECTURES, "kmer", "onehot", "plantcaduceus-nano"]) from None  # fmt: skip
        return make_embedder(name).spec
    from dataclasses import replace

    chosen = make_recipe(recipe, "recipe")
    if chosen.pool != "token" and chosen.context == "bin":
        chosen = replace(chosen, span=bin_bp)
    channels = 2 * sizes.channels if chosen.strands == "both" else sizes.channels
    return EmbedderSpec(
        "plantcaduceus", {"embedding": channels}, chosen.window,
        span_bp=None if chosen.pool == "token" else chosen.span,
        positions=chosen.span if chosen.pool == "tokens" else 0, context=chosen.context, batch=64,
    )  # fmt: skip


def random_embedder(name: str, folder: Path, dtype: str) -> Embedder:
    """A released model with its real sizes and random weights, written into ``folder``.

    Speed does not depend on the values of weights.
    """
    import torch

    from featurestore.embedders.plantcaduceus import PlantCaduceusConfig, PlantCaduceusForMaskedLM

    sizes = architecture(name)
    if sizes is None:
        raise InputError(f"{name}: sizes not known; choose {', '.join(ARCHITECTURES)}")
    torch.manual_seed(0)
    config = PlantCaduceusConfig(d_model=sizes.channels, n_layer=sizes.layers)
    PlantCaduceusForMaskedLM(config).save_pretrained(folder)
    return make_embedder(name, {"type": "plantcaduceus", "checkpoint": str(folder), "dtype": dtype})
