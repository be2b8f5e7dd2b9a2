"""The two-branch head of EMPRES on stored features, and its variants EMPRES_0 to EMPRES_4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from featurestore.errors import InputError, unknown_name
from learners.base import LearnerInfo
from learners.batch import FeatureBatch
from learners.neural.presets import PresetLearner
from learners.neural.s2e_settings import PRESETS, SPACE_BASES, SPACE_BINS, VARIANTS
from learners.search import SearchSpace

if TYPE_CHECKING:
    from torch import nn

    from learners.neural.plan import TrainingPlan
    from learners.neural.s2e_network import HeadSizes

_REFERENCE = "Vahedi Torghabeh et al., bioRxiv 2026, doi:10.64898/2026.02.27.708524"

_SET: Mapping[str, Any] = dict.fromkeys(PRESETS["published"])
_DEFAULTS: Mapping[str, Any] = {"preset": None, "variant": None, **_SET, "amp": "auto"}


class S2E(PresetLearner):
    """Per region convolutions and dense layers, then dense layers over all regions.

    Takes any number of features of bins and codes; those of equally many regions and bins are
    stacked along their channels. Each number of a bin is standardised from training genes. See
    :class:`learners.neural.s2e_network.S2ENetwork` for the layers.

    Parameters
    ----------
    preset : {"small", "published"}, optional
        What every parameter that is None is taken from: ``published`` is the middle of the
        published search space, ``small`` trains a thousand genes on two cores in a minute.
        Default: ``published`` for a variant, else ``small``.
    variant : str, optional
        ``EMPRES_0`` … ``EMPRES_4``: chooses the features of the paper.
    conv_layers, filters, kernel, base_layers, base_filters, base_kernel, dilation, pool
    motifs, motif_width, motif_pool, base_dropout, shift
    dense_layers, post_layers, units, dropout, input_dropout
        Of the network, see :class:`learners.neural.s2e_network.HeadSizes`. A kernel too wide for
        the bins is narrowed, which ``notes`` then says.
    learning_rate, weight_decay, batch_size, epochs, patience, average, averaged
    schedule, ema, amp
        Of the training, see :class:`learners.neural.plan.TrainingPlan`.
    """

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="s2e",
        inputs=frozenset({"bins", "codes"}),
        summary="Two-branch convolutional head of EMPRES on any stored features",
        reference=_REFERENCE,
        multi_output=True,
        requires=("torch",),
        defaults=_DEFAULTS,
    )
    presets = PRESETS
    apart = frozenset({"variant"})
    steps = (2100, 8, 50)
    search_space: ClassVar[SearchSpace] = SPACE_BINS

    def __init__(
        self,
        *,
        preset: str | None = None,
        variant: str | None = None,
        conv_layers: int | None = None,
        filters: int | None = None,
        kernel: int | None = None,
        base_layers: int | None = None,
        base_filters: int | None = None,
        base_kernel: int | None = None,
        dilation: int | None = None,
        pool: int | None = None,
        motifs: int | None = None,
        motif_width: int | None = None,
        motif_pool: int | None = None,
        base_dropout: float | None = None,
        shift: int | None = None,
        dense_layers: int | None = None,
        post_layers: int | None = None,
        units: int | None = None,
        dropout: float | None = None,
        input_dropout: float | None = None,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        patience: int | None = None,
        average: int | None = None,
        averaged: str | None = None,
        schedule: str | None = None,
        ema: float | None = None,
        amp: str = "auto",
    ) -> None:
        given = locals()
        if variant is not None and variant not in VARIANTS:
            raise unknown_name("variant of s2e", variant, VARIANTS)
        super().__init__(**{name: given[name] for name in _DEFAULTS})
        _check(self.settings)

    def preset_for(self, given: Mapping[str, Any]) -> str:
        """The published one for a variant."""
        return "published" if given["variant"] else "small"

    @classmethod
    def wanted_features(cls, params: Mapping[str, Any]) -> str | None:
        """Features that the variant is defined by, with types of embedders as groups."""
        variant = params.get("variant")
        return None if variant is None else VARIANTS.get(variant)

    def build(self, layout: Mapping[str, Any], targets: int) -> nn.Module:
        """A new network."""
        from learners.neural.s2e_network import S2ENetwork, bin_groups, kernel_for

        sizes = self._sizes()
        narrowed = {bins: kernel_for(bins, sizes) for _, bins in bin_groups(layout)}
        self.notes = [
            f"{self.info.name}: {sizes.conv_layers} convolutions of kernel {sizes.kernel} do not fit "
            f"{bins} bins; their kernel is {kernel}"
            for bins, kernel in narrowed.items()
            if kernel < sizes.kernel
        ]
        return S2ENetwork(layout, targets, sizes)

    def prepare(self, network: nn.Module, train: FeatureBatch) -> None:
        """Measure mean and deviation of every number of every bin on training genes."""
        from learners.neural.inputs import measure
        from learners.neural.s2e_network import S2ENetwork

        super().prepare(network, train)
        if isinstance(network, S2ENetwork):
            measure(network.standardised(), train)

    def plan(self) -> TrainingPlan:
        """How to train it."""
        return replace(
            super().plan(), warmup=0.05 if self.settings["schedule"] == "cosine" else 0.0
        )

    def _sizes(self) -> HeadSizes:
        from learners.neural.s2e_network import HeadSizes

        return HeadSizes(**{f.name: self.settings[f.name] for f in fields(HeadSizes)})


def _check(settings: Mapping[str, Any]) -> None:
    for name in (
        "conv_layers", "filters", "kernel", "base_layers", "base_filters", "base_kernel",
        "dilation", "dense_layers", "post_layers", "units", "motif_width", "motif_pool",
    ):  # fmt: skip
        if settings[name] < 1:
            raise InputError(f"s2e: {name} {settings[name]}: at least 1")
    if settings["pool"] < 2:
        raise InputError(f"s2e: pool {settings['pool']}: at least 2")
    for name in ("motifs", "shift"):
        if settings[name] < 0:
            raise InputError(f"s2e: {name} {settings[name]}: at least 0")
    for name in ("dropout", "input_dropout", "base_dropout"):
        if not 0 <= settings[name] < 1:
            raise InputError(f"s2e: {name} {settings[name]}: from 0, below 1")


class _Variant(S2E):
    """A variant of EMPRES: ``s2e`` with its features and the published preset."""

    def __init__(
        self,
        *,
        preset: str = "published",
        conv_layers: int | None = None,
        filters: int | None = None,
        kernel: int | None = None,
        base_layers: int | None = None,
        base_filters: int | None = None,
        base_kernel: int | None = None,
        dilation: int | None = None,
        pool: int | None = None,
        motifs: int | None = None,
        motif_width: int | None = None,
        motif_pool: int | None = None,
        base_dropout: float | None = None,
        shift: int | None = None,
        dense_layers: int | None = None,
        post_layers: int | None = None,
        units: int | None = None,
        dropout: float | None = None,
        input_dropout: float | None = None,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        patience: int | None = None,
        average: int | None = None,
        averaged: str | None = None,
        schedule: str | None = None,
        ema: float | None = None,
        amp: str = "auto",
    ) -> None:
        given = locals()
        super().__init__(**{name: given[name] for name in self.info.defaults})
        del self.parameters["variant"]

    @classmethod
    def wanted_features(cls, params: Mapping[str, Any]) -> str | None:
        """Features that the variant is defined by, with types of embedders as groups."""
        return VARIANTS[cls.info.name]


def _info(name: str, kind: str, summary: str) -> LearnerInfo:
    defaults = {key: value for key, value in _DEFAULTS.items() if key != "variant"}
    return LearnerInfo(
        name=name,
        inputs=frozenset({kind}),  # type: ignore[arg-type] # one of the two below
        summary=summary,
        reference=_REFERENCE,
        multi_output=True,
        requires=("torch",),
        defaults=defaults | {"preset": "published"},
    )


class Empres0(_Variant):
    """One-hot sequence."""

    info: ClassVar[LearnerInfo] = _info("EMPRES_0", "codes", "EMPRES on one-hot sequence")
    search_space: ClassVar[SearchSpace] = SPACE_BASES


class Empres1(_Variant):
    """PlantCaduceus."""

    info: ClassVar[LearnerInfo] = _info("EMPRES_1", "bins", "EMPRES on PlantCaduceus")


class Empres2(_Variant):
    """PlantCaduceus and the probability of a2z: the headline model."""

    info: ClassVar[LearnerInfo] = _info(
        "EMPRES_2", "bins", "EMPRES on PlantCaduceus and a2z accessibility"
    )


class Empres3(_Variant):
    """PlantCaduceus and the embedding of a2z."""

    info: ClassVar[LearnerInfo] = _info(
        "EMPRES_3", "bins", "EMPRES on PlantCaduceus and the embedding of a2z"
    )


class Empres4(_Variant):
    """The embedding of a2z alone."""

    info: ClassVar[LearnerInfo] = _info("EMPRES_4", "bins", "EMPRES on the embedding of a2z")
