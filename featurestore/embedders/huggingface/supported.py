"""Says from ``config.json`` alone, without ``transformers``, what cannot be loaded, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from featurestore.embedders.checkpoint import Checkpoint, read_json
from featurestore.errors import InputError

SUPPORTED: Final = (
    "loaded are masked and causal models that transformers has classes of its own for (esm: AgroNT "
    "and Nucleotide Transformer v1; bert, roberta, modernbert; gpt2, gpt_neox, llama, mistral, gemma; "
    "mamba, mamba2 …)"
)

_REFUSED: Final[Mapping[str, str]] = {
    "caduceus": 'Caduceus is not in transformers; for PlantCaduceus use type = "plantcaduceus"',
    "enformer": 'Enformer is not in transformers; use type = "enformer"',
    "hyenadna": "HyenaDNA is not in transformers and needs code of its own repository",
    "stripedhyena": "Evo (StripedHyena) is not in transformers and needs code of its own repository",
    "evo": "Evo is not in transformers and needs code of its own repository",
    "evo2": "Evo 2 is not in transformers and needs code of its own repository",
}
_WIDTH: Final = ("hidden_size", "n_embd", "d_model", "dim", "emb_dim")
_LAYERS: Final = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
POSITIONS: Final = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx")

TOKENIZER_FILES: Final = (
    "tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
"""What decides how text becomes ids."""


def check_config(checkpoint: Checkpoint, *, native: bool) -> dict[str, Any]:
    """The configuration of a checkpoint that ``transformers`` may load with its own code.

    Parameters
    ----------
    native : bool
        Load a model type of ``transformers`` although the repository names code of its own.

    Raises
    ------
    InputError
        For models that need code of a third party, quantised weights and encoder-decoders.
    """
    config = {k: _decoded(v) for k, v in checkpoint.config().items()}
    where = f"{checkpoint.name}/config.json"
    kind = config.get("model_type")
    if kind and (reason := _REFUSED.get(str(kind).lower().replace("-", "").replace("_", ""))):
        raise InputError(
            f"{where}: model_type {kind!r}: {reason}. Code of a checkpoint is never run. {SUPPORTED}"
        )
    if config.get("auto_map") and not (native and kind):
        mend = (
            f". If transformers' own {kind!r} is the same model, say native = true: weights that do not fit "
            "it exactly are refused"
        )
        raise InputError(
            f"{where}: model_type {kind!r} comes with code of its own (auto_map), which is never run; "
            f"{SUPPORTED}{mend if kind else ''}"
        )
    if not isinstance(kind, str) or not kind:
        raise InputError(f"{where}: names no model_type; {SUPPORTED}")
    if config.get("quantization_config"):
        raise InputError(f"{where}: quantised weights are not loaded; give the full ones")
    if config.get("is_encoder_decoder"):
        raise InputError(
            f"{where}: model_type {kind!r} is an encoder-decoder; give a masked or causal model"
        )
    return config


def _decoded(value: Any) -> Any:
    """Infinities, which transformers writes as ``{"__float__": "Infinity"}``, as numbers."""
    if isinstance(value, dict):
        if value.keys() == {"__float__"}:
            return float(value["__float__"])
        return {k: _decoded(v) for k, v in value.items()}
    return [_decoded(v) for v in value] if isinstance(value, list) else value


def check_tokenizer(checkpoint: Checkpoint, *, native: bool) -> None:
    """Refuse a checkpoint without a vocabulary, or with a tokenizer that is code."""
    vocabularies = TOKENIZER_FILES[:7]
    if not any((checkpoint.folder / name).is_file() for name in vocabularies):
        raise InputError(
            f"{checkpoint.name}: holds no tokenizer; one of {', '.join(vocabularies)} belongs there. "
            "A tokenizer that is code is never run: save it as tokenizer.json"
        )
    settings = checkpoint.folder / "tokenizer_config.json"
    if settings.is_file() and read_json(settings).get("auto_map") and not native:
        raise InputError(
            f"{checkpoint.name}/tokenizer_config.json: the tokenizer is code of the repository (auto_map), "
            "which is never run; if the files beside it are enough, say native = true"
        )


def sizes(config: Mapping[str, Any], checkpoint: Checkpoint) -> tuple[int, int, int | None]:
    """Channels, layers and, where the configuration says so, positions."""
    found = [
        next((config[k] for k in keys if isinstance(config.get(k), int)), None)
        for keys in (_WIDTH, _LAYERS, POSITIONS)
    ]
    width, layers, positions = found
    if width is None or layers is None:
        lacking = " and ".join(
            keys[0] for keys, v in ((_WIDTH, width), (_LAYERS, layers)) if v is None
        )
        raise InputError(f"{checkpoint.name}/config.json: says no {lacking}")
    return width, layers, positions if positions and positions > 0 else None


def single_letters(folder: Path) -> set[str] | None:
    """Single letters that a vocabulary holds, or None where it cannot be read as text."""
    if (path := folder / "tokenizer.json").is_file():
        vocabulary = read_json(path).get("model", {}).get("vocab")
        if isinstance(vocabulary, dict):
            return {token for token in vocabulary if len(token) == 1}
    if (path := folder / "vocab.json").is_file():
        return {token for token in read_json(path) if len(token) == 1}
    if (path := folder / "vocab.txt").is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        return {line.strip() for line in lines if len(line.strip()) == 1}
    return None


def card_licence(folder: Path) -> str:
    """Licence in the front matter of the model card, or an empty string.

    Only the lines ``license:`` and ``license_name:`` are looked at; nothing is parsed as YAML.
    """
    card = folder / "README.md"
    if not card.is_file():
        return ""
    text = card.read_text(encoding="utf-8", errors="replace")
    front = re.match(r"\ufeff?---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    if not front:
        return ""
    said: dict[str, str] = dict(
        re.findall(r"^(license|license_name):[ \t]*['\"]?([^\s'\"#]+)", front[1], re.M)
    )
    licence = said.get("license", "")
    return said.get("license_name", licence) if licence == "other" else licence
