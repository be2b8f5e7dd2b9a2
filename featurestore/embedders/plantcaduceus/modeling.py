"""PlantCaduceus in the style of ``transformers``, without remote code and without ``mamba_ssm``.

Module and parameter names are the original's, so its state dicts load as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 # torch's own convention
from transformers import PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from featurestore.embedders.checkpoint import find_checkpoint, read_tensors
from featurestore.embedders.plantcaduceus import mamba2, paths
from featurestore.embedders.plantcaduceus.configuration import PlantCaduceusConfig
from featurestore.embedders.plantcaduceus.layers import Direction, Layer, rms_norm
from featurestore.embedders.plantcaduceus.precision import forced_precision
from featurestore.embedders.plantcaduceus.weights import canonical, check_complete
from featurestore.errors import InputError

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Compute dtypes: of the matrix products; norms, convolution, scan and residuals stay in float32."""


class MambaDirection(nn.Module):
    """Mamba-1 parameters of one reading direction, under the original's names."""

    def __init__(self, config: PlantCaduceusConfig) -> None:
        super().__init__()
        inner, rank, states = config.d_inner, config.dt_rank, config.d_state
        self.in_proj = nn.Linear(config.d_model, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, config.d_conv, groups=inner)
        self.x_proj = nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, states + 1)).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, config.d_model, bias=False)

    @property
    def conv_bias(self) -> Tensor:
        """Bias of the convolution, shape (c,)."""
        bias = self.conv1d.bias
        assert bias is not None  # noqa: S101 # Conv1d is made with one above
        return bias

    def tensors(self) -> Direction:
        """Parameters as the layer function takes them."""
        return Direction(
            self.conv1d.weight[:, 0], self.conv_bias, self.x_proj.weight, self.dt_proj.weight,
            self.dt_proj.bias, -torch.exp(self.A_log.float()), self.D,
        )  # fmt: skip


class BiMamba(nn.Module):
    """Two directions that share ``in_proj`` and ``out_proj``."""

    def __init__(self, config: PlantCaduceusConfig) -> None:
        super().__init__()
        kind = mamba2.Mamba2Direction if config.mixer == "mamba2" else MambaDirection
        self.mamba_fwd = kind(config)
        self.mamba_rev = kind(config)
        self.mamba_rev.in_proj = self.mamba_fwd.in_proj
        self.mamba_rev.out_proj = self.mamba_fwd.out_proj


class Wrapped(nn.Module):
    """A level of names (``submodule``) that the original's wrapper puts into the keys."""

    def __init__(self, submodule: nn.Module) -> None:
        super().__init__()
        self.submodule = submodule


class NormWeight(nn.Module):
    """Weight of an RMS norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))


class Block(nn.Module):
    """Norm and mixer of one layer."""

    def __init__(self, config: PlantCaduceusConfig) -> None:
        super().__init__()
        self.mixer = Wrapped(BiMamba(config))
        self.norm = NormWeight(config.d_model)
        self.config = config

    def tensors(self) -> Layer | mamba2.Layer2:
        """Parameters as the layer function takes them."""
        both: Any = self.mixer.submodule
        ahead, back = both.mamba_fwd, both.mamba_rev
        shared = (self.norm.weight, ahead.in_proj.weight, ahead.out_proj.weight)
        epsilon = self.config.norm_epsilon
        if self.config.mixer == "mamba2":
            groups = self.config.mixer_groups
            return mamba2.Layer2(*shared, ahead.tensors(), back.tensors(), groups, epsilon)
        return Layer(*shared, ahead.tensors(), back.tensors(), epsilon)


class Backbone(nn.Module):
    """Embedding, layers and final norm."""

    def __init__(self, config: PlantCaduceusConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = nn.Module()
        self.embeddings.word_embeddings = nn.Module()
        self.embeddings.word_embeddings.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.norm_f = NormWeight(config.d_model)
        self.compute_dtype = "fp32"
        self.prepared = paths.Prepared()
        order = [config.complement_map[k] for k in range(config.vocab_size)]
        self.register_buffer("complement_map", torch.tensor(order), persistent=False)

    @property
    def word_embeddings(self) -> nn.Embedding:
        """Embedding of the tokens, shape (vocabulary, d)."""
        table: nn.Embedding = self.embeddings.word_embeddings.embedding  # type: ignore[union-attr, assignment]
        return table

    @property
    def complement(self) -> Tensor:
        """Token of the complementary base, by token."""
        order: Tensor = self.complement_map  # type: ignore[assignment] # a registered buffer
        return order

    @property
    def exchanges(self) -> bool:
        """Whether the halves lie exchanged after an odd number of layers (see :mod:`.layers`)."""
        return bool(self.config.fused_add_norm)

    def layer_tensors(self) -> tuple[Any, ...]:
        """The layers, every second one conjugated where the original exchanges the halves."""
        found = []
        block: Any
        for i, block in enumerate(self.layers):
            layer = block.tensors()
            found.append(layer.conjugated() if self.exchanges and i % 2 == 0 else layer)
        return tuple(found)

    def train(self, mode: bool = True) -> Self:
        """Switch modes; what is prepared goes, as writes to ``.data`` leave no trace to see."""
        self.prepared = paths.Prepared()
        return super().train(mode)

    def _run(self, x: Tensor, kept: list[Tensor] | None) -> tuple[Tensor, Tensor]:
        dtype = DTYPES[self.compute_dtype]
        if self.config.mixer == "mamba2":
            with forced_precision(x.device.type):
                return mamba2.run_layers(x, self.layer_tensors(), dtype, kept)
        return paths.run(self, x, dtype, kept)

    def strands(self, x: Tensor, layers: int) -> Tensor:
        """Two strands, each in its own frame, (2 b, l, d) → the original's layout, (b, l, 2 d).

        ``layers`` is how many layers have run: after an odd number of exchanges the strands lie
        in each other's half, mirrored.
        """
        forward, reverse = x.chunk(2)
        if self.exchanges and layers % 2:
            return torch.cat([reverse.flip(1, 2), forward], dim=-1)
        return torch.cat([forward, reverse.flip(1, 2)], dim=-1)

    def forward(self, input_ids: Tensor, *, keep_all: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Normed output (b, l, 2 d) and, if asked for, input of each layer; the original's layout."""
        complement = self.complement
        reverse = complement[input_ids].flip(1)
        x = self.word_embeddings(torch.cat([input_ids, reverse])).float()
        kept: list[Tensor] | None = [x] if keep_all else None
        last, residual = self._run(x, kept)
        count = len(self.layers)
        mirrored = self.exchanges and count % 2 == 1
        weight = self.norm_f.weight.flip(0) if mirrored else self.norm_f.weight
        final = self.strands(rms_norm(last + residual, weight, self.config.norm_epsilon), count)
        hidden = [self.strands(h, i) for i, h in enumerate((kept or [])[:count])]
        return final, hidden


class PlantCaduceusPreTrainedModel(PreTrainedModel):  # type: ignore[misc] # untyped base
    """Loading, saving and initialisation."""

    config_class = PlantCaduceusConfig
    base_model_prefix = "caduceus"
    supports_gradient_checkpointing = False
    _no_split_modules = ["Block"]  # noqa: RUF012 # the name and kind the base class reads

    @classmethod
    def from_pretrained(cls, name: Any, *_: Any, dtype: Any = "fp32", **options: Any) -> Self:
        """A checkpoint from a folder or the hub, in eval mode.

        Weights are read by :mod:`featurestore.embedders.checkpoint`, not by ``transformers``, some
        versions of which break the ties of this architecture without a word.

        Parameters
        ----------
        name : str or path
            Folder or hub id.
        dtype : {"fp32", "bf16", "fp16"} or torch dtype
            Of the matrix products. Parameters stay in float32.
        revision, cache_dir, token, local_files_only
            As in ``transformers``.

        Raises
        ------
        InputError
            For files that are missing or damaged, keys that are missing, surplus or of the wrong
            shape, and tied tensors that differ.
        """
        keys = ("revision", "cache_dir", "token", "local_files_only")
        if options.pop("trust_remote_code", False):
            raise InputError("trust_remote_code: nothing of a checkpoint is ever run; leave it out")
        given = options.pop("torch_dtype", None) or dtype
        config = options.pop("config", None)
        checkpoint = find_checkpoint(str(name), **{k: options[k] for k in keys if k in options})
        config = config or PlantCaduceusConfig(**checkpoint.config())
        model = cls(config)
        model.load_tensors(read_tensors(checkpoint.weights), str(checkpoint.weights[0]))
        model.set_compute_dtype(given)
        model.eval()
        return model

    def load_tensors(self, tensors: Mapping[str, Tensor], where: str) -> None:
        """Load a state dict of the original, checking keys, shapes, ties and finiteness."""
        found = canonical(tensors, where)
        own = dict(self.named_parameters())
        check_complete(found, own, where)
        with torch.no_grad():
            for key, parameter in own.items():
                parameter.copy_(found[key])

    @property
    def backbone(self) -> Backbone:
        """Embedding, layers and final norm."""
        raise NotImplementedError

    def set_compute_dtype(self, dtype: Any) -> None:
        """Set the dtype of the matrix products, by name or as a torch dtype."""
        names = {v: k for k, v in DTYPES.items()}
        known: dict[Any, str] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", **names}
        name = known.get(dtype, dtype)
        if name not in DTYPES:
            raise InputError(f"dtype {dtype!r}: choose fp32, bf16 or fp16")
        self.backbone.compute_dtype = name

    def save_pretrained(self, save_directory: Any, *_: Any, **__: Any) -> None:
        """Write ``config.json`` and ``model.safetensors``, each tied tensor once."""
        from safetensors.torch import save_file

        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.config.architectures = [type(self).__name__]
        self.config.save_pretrained(folder)
        own = {k: v.detach().contiguous() for k, v in self.named_parameters()}
        save_file(own, folder / "model.safetensors", metadata={"format": "pt"})

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """The original's initialisation: GPT-2's for projections, Mamba's for the step size."""
        cfg = self.config
        std = cfg.initializer_cfg.get("initializer_range", 0.02)
        if isinstance(module, nn.Embedding):
            module.weight.normal_(std=std)
        if isinstance(module, mamba2.Mamba2Direction):
            module.initialise(cfg)
        if isinstance(module, MambaDirection):
            low, high = math.log(cfg.ssm_cfg["dt_min"]), math.log(cfg.ssm_cfg["dt_max"])
            step = torch.exp(torch.rand(cfg.d_inner) * (high - low) + low)
            step = step.clamp(min=cfg.ssm_cfg["dt_init_floor"])
            module.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))
            bound = cfg.dt_rank**-0.5 * cfg.ssm_cfg["dt_scale"]
            module.dt_proj.weight.uniform_(-bound, bound)
            nn.init.kaiming_uniform_(module.out_proj.weight, a=math.sqrt(5))
            module.out_proj.weight /= math.sqrt(cfg.n_layer)


class Holder(nn.Module):
    """The level ``caduceus`` in the keys of the original."""

    def __init__(self, config: PlantCaduceusConfig) -> None:
        super().__init__()
        self.backbone = Backbone(config)


class MaskedHead(nn.Module):
    """The head's level in the keys; its weight is the embedding's, so nothing of its own is stored."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.lm_head = nn.Linear(embedding.embedding_dim, embedding.num_embeddings, bias=False)
        self.lm_head.weight = embedding.weight


class PlantCaduceusForMaskedLM(PlantCaduceusPreTrainedModel):
    """PlantCaduceus with its masked-token head.

    Examples
    --------
    >>> model = PlantCaduceusForMaskedLM.from_pretrained("kuleshov-group/PlantCaduceus_l20")
    ... # doctest: +SKIP
    >>> model(input_ids, output_hidden_states=True).hidden_states[-1]  # (b, l, 2 d)
    ... # doctest: +SKIP
    """

    def __init__(self, config: PlantCaduceusConfig) -> None:
        super().__init__(config)
        self.caduceus = Holder(config)
        self.lm_head = MaskedHead(self.backbone.word_embeddings)
        self.apply(self._init_weights)
        self.post_init()

    @property
    def backbone(self) -> Backbone:
        """Embedding, layers and final norm."""
        return self.caduceus.backbone

    def get_input_embeddings(self) -> nn.Embedding:
        """Embedding of the tokens."""
        return self.backbone.word_embeddings

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (…, vocabulary) of hidden states (…, 2 d) in the original's layout."""
        forward, reverse = hidden.float().chunk(2, dim=-1)
        weight, complement = self.lm_head.lm_head.weight, self.backbone.complement
        # Both strands in their own frame, so that exchanging them changes not even the rounding.
        other = F.linear(reverse.flip(-2, -1), weight).flip(-2)
        return F.linear(forward, weight) + other[..., complement]

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        loss_weights: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **_: Any,
    ) -> Any:
        """Logits of every position, and the loss where there are labels.

        Parameters
        ----------
        input_ids : int64 tensor, shape (b, l)
        labels : int64 tensor, shape (b, l)
            Tokens to predict; ``config.ignore_index`` (−100) elsewhere.
        loss_weights : float tensor, shape (b, l)
            Weight of each position in the loss (repeats count less in the original's training).
        output_hidden_states : bool
            Adds ``hidden_states``: the input of each layer, then the normed output; n_layer + 1
            tensors of shape (b, l, 2 d), the forward strand first, the reverse strand aligned to
            it by position and reversed by channel.

        Returns
        -------
        MaskedLMOutput
            ``logits`` (b, l, vocabulary) float32, ``loss``, ``hidden_states``.
        """
        final, hidden = self.backbone(input_ids, keep_all=bool(output_hidden_states))
        logits = self.head(final)
        loss = None if labels is None else self._loss(logits, labels, loss_weights)
        states = (*hidden, final) if output_hidden_states else None
        if return_dict is False:
            return tuple(v for v in (loss, logits, states) if v is not None)
        return MaskedLMOutput(loss=loss, logits=logits, hidden_states=states)

    def _loss(self, logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        ignored = self.config.ignore_index
        flat, target = logits.flatten(0, 1), labels.flatten()
        if weights is None:
            return F.cross_entropy(flat, target, ignore_index=ignored)
        each = F.cross_entropy(flat, target, ignore_index=ignored, reduction="none")
        counted = torch.where(target == ignored, 0.0, weights.flatten().float())
        return (each * counted).sum() / counted.sum()
