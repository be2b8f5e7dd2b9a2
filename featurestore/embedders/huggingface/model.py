"""Loads a model and a tokenizer of ``transformers`` strictly, and runs it to hidden states.

Nothing of a checkpoint is run: weights are read as tensors only, model and tokenizer classes are
those of ``transformers``, and compiled kernels from a hub are switched off.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from featurestore.embedders.checkpoint import Checkpoint, read_tensors
from featurestore.embedders.huggingface.supported import POSITIONS, SUPPORTED
from featurestore.errors import InputError

DTYPES: Final = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

_NO_WEIGHT: Final = re.compile(
    r"position_ids|inv_freq|pooler\.|contact_head|\.attn\.(masked_)?bias$"
)
"""Tensors on which no hidden state depends, or that follow from the configuration."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode.

    Parameters
    ----------
    base : the model without its language-model head
    tokenizer : its tokenizer
    limit : int or None
        Most tokens that it takes, special ones included.
    vocabulary : int
        Rows of its input embedding.
    takes_mask : bool
        Whether it can be told which tokens are padding.
    pad : int
        Id of the padding.
    """

    base: Any
    tokenizer: Any
    limit: int | None
    vocabulary: int
    takes_mask: bool
    pad: int

    def hidden(self, ids: Any, mask: Any, layer: int) -> Any:
        """Hidden states of a layer, float32 tensor of shape (n, t, channels), zero at padding.

        Parameters
        ----------
        ids, mask : int64 tensors, shape (n, t)
        layer : int
            −1 the normed output, 0 the embedding, i the output of layer i.
        """
        import torch

        given = {"attention_mask": mask} if self.takes_mask else {}
        with torch.inference_mode():
            out = self.base(
                input_ids=ids, output_hidden_states=layer >= 0, return_dict=True, **given
            )
            state = out.last_hidden_state if layer < 0 else out.hidden_states[layer]
            return state.float().masked_fill(mask[..., None] == 0, 0.0)


def load_model(
    checkpoint: Checkpoint, config: Mapping[str, Any], dtype: str, device: Any
) -> LoadedModel:
    """Model and tokenizer of a checkpoint, on a device.

    Raises
    ------
    InputError
        For a model type that ``transformers`` does not know, weights that do not fit it exactly,
        and tokenizers that cannot be loaded without code.
    """
    _no_kernels_from_a_hub()
    with _quiet():
        settings, cls = _classes(checkpoint, config)
        tokenizer = _tokenizer(checkpoint, settings)
        model = _strictly(cls, settings, checkpoint, dtype)
    base = getattr(model, model.base_model_prefix, model).to(device).eval()
    names = inspect.signature(base.forward).parameters
    vocabulary = int(base.get_input_embeddings().weight.shape[0])
    given = (settings.pad_token_id, tokenizer.pad_token_id)
    pad = next((p for p in given if isinstance(p, int) and 0 <= p < vocabulary), 0)
    return LoadedModel(
        base, tokenizer, _limit(settings, base, tokenizer),
        vocabulary, "attention_mask" in names, pad,
    )  # fmt: skip


def _no_kernels_from_a_hub() -> None:
    """With the package ``kernels``, transformers fetches compiled code by itself: not here."""
    os.environ.setdefault("USE_HUB_KERNELS", "0")
    if importlib.util.find_spec("kernels") is None:
        return
    hub_kernels = importlib.import_module("transformers.integrations.hub_kernels")
    if getattr(hub_kernels, "_kernels_enabled", False):
        raise InputError(
            "huggingface: the package 'kernels' is installed and lets transformers fetch and run "
            "compiled code: set USE_HUB_KERNELS=0 in the environment and start again"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence loading reports and progress bars: what they tell is checked here and raised."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _classes(checkpoint: Checkpoint, config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Configuration object and model class, from transformers' own registry."""
    from transformers import (
        CONFIG_MAPPING,
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING,
    )

    kind = config["model_type"]
    where = f"{checkpoint.name}/config.json"
    if kind not in CONFIG_MAPPING:
        raise InputError(
            f"{where}: model_type {kind!r} is none that the installed transformers knows, and code of a "
            f"checkpoint is never run. {SUPPORTED}"
        )
    plain = {k: v for k, v in config.items() if k not in ("auto_map", "_attn_implementation", "attn_implementation")}  # fmt: skip
    try:
        settings = CONFIG_MAPPING[kind].from_dict(plain)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{where}: does not fit model_type {kind!r}: {error}") from error
    mappings = (MODEL_FOR_MASKED_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING)
    classes = [mapping[type(settings)] for mapping in mappings if type(settings) in mapping]
    if not classes:
        raise InputError(
            f"{where}: model_type {kind!r} has no masked or causal model in transformers"
        )
    named = config.get("architectures") or []
    settings.use_cache = False
    return settings, next((c for c in classes if c.__name__ in named), classes[0])


def _tokenizer(checkpoint: Checkpoint, settings: Any) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            str(checkpoint.folder), config=settings, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, TypeError, KeyError, ImportError, AttributeError) as error:
        raise InputError(
            f"{checkpoint.name}: its tokenizer cannot be loaded: {_first_line(error)}"
        ) from error


def _strictly(cls: Any, settings: Any, checkpoint: Checkpoint, dtype: str) -> Any:
    """The model with every weight from the checkpoint, and every weight of the checkpoint used."""
    import torch
    import transformers

    tensors = read_tensors(checkpoint.weights)
    odd = [k for k, v in tensors.items() if v.is_floating_point() and not bool(v.isfinite().all())]
    if odd:
        raise InputError(f"{checkpoint.name}: not finite numbers in {odd[:3]}")
    # Never a flash or hub implementation that whichever machine is at hand may have.
    attention = "sdpa" if getattr(cls, "_supports_sdpa", False) else "eager"
    key = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"
    try:
        model, report = cls.from_pretrained(
            None, config=settings, state_dict=tensors, output_loading_info=True,
            attn_implementation=attention, **{key: getattr(torch, DTYPES[dtype])},
        )  # fmt: skip
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"{checkpoint.name}: its weights do not have the shapes of {cls.__name__}, the class of "
            f"model_type {settings.model_type!r}: {_mismatch(cls, settings, tensors) or _first_line(error)}. "
            "A model that was trained with code of its own needs that code, which is never run"
        ) from error
    prefix = model.base_model_prefix + "."
    whole = any(k.startswith(prefix) for k in tensors)
    missing = sorted(k for k in report["missing_keys"] if k.startswith(prefix) and not _NO_WEIGHT.search(k))  # fmt: skip
    surplus = sorted(k for k in report["unexpected_keys"] if (k.startswith(prefix) or not whole) and not _NO_WEIGHT.search(k))  # fmt: skip
    if missing or surplus:
        told = [
            f"{len(keys)} tensors {word}, first {keys[:3]}"
            for keys, word in ((missing, "are missing"), (surplus, "have no place"))
            if keys
        ]
        raise InputError(
            f"{checkpoint.name}: its weights are not those of {cls.__name__}, the class of model_type "
            f"{settings.model_type!r}: {'; '.join(told)}. transformers would go on with random numbers there"
        )
    return model


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _mismatch(cls: Any, settings: Any, tensors: Mapping[str, Any]) -> str:
    """The first tensor whose shape differs, in words."""
    import torch

    with torch.device("meta"):
        wanted = cls(settings).state_dict()
    for key, tensor in tensors.items():
        own = wanted.get(key)
        if own is not None and own.shape != tensor.shape:
            return f"{key} is {tuple(tensor.shape)} where {tuple(own.shape)} belongs"
    return ""


def _limit(settings: Any, base: Any, tokenizer: Any) -> int | None:
    """Most tokens of a window: positions of the configuration and length of the tokenizer."""
    known = [getattr(settings, key, None) for key in POSITIONS]
    limits = [next((v for v in known if isinstance(v, int) and v > 0), None)]
    for name, module in base.named_modules():
        table, reserved = getattr(module, "weight", None), getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and table is not None and reserved is not None:
            limits.append(table.shape[0] - reserved - 1)  # positions count from padding_idx + 1
    if tokenizer.model_max_length < 10**9:  # transformers' word for "not said" is 10^30
        limits.append(int(tokenizer.model_max_length))
    return min((v for v in limits if v is not None), default=None)
