"""One token a base: the tokenizer that all PlantCaduceus checkpoints share."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from featurestore.embedders.checkpoint import find_checkpoint, read_json
from featurestore.errors import InputError
from featurestore.sequence.iupac import LETTERS

VOCABULARY: Final = {"[PAD]": 0, "[MASK]": 1, "[UNK]": 2, "a": 3, "c": 4, "g": 5, "t": 6}
MASK_ID: Final = VOCABULARY["[MASK]"]
UNKNOWN_ID: Final = VOCABULARY["[UNK]"]
BASE_IDS: Final = (3, 4, 5, 6)
"""Tokens of A, C, G, T."""

ID_OF_CODE: Final = np.array(
    [VOCABULARY.get(letter.lower(), UNKNOWN_ID) for letter in LETTERS], np.uint8
)
"""IUPAC code → token; N and every ambiguity code are [UNK], as in the original."""


class PlantCaduceusTokenizer(PreTrainedTokenizerFast):  # type: ignore[misc] # untyped base
    """Lower-cases, splits into bases, adds nothing: 512 bp are 512 ids.

    [PAD] 0, [MASK] 1, [UNK] 2, a 3, c 4, g 5, t 6. There is no attention mask in the model: [PAD]
    and [UNK] are tokens it sees.
    """

    model_input_names = ["input_ids"]  # noqa: RUF012 # the name and kind the base class reads

    def __init__(self, **other: Any) -> None:
        for key in ("tokenizer_file", "vocab_file", "tokenizer_object"):
            other.pop(key, None)
        backend = Tokenizer(models.BPE(vocab=VOCABULARY, merges=[], unk_token="[UNK]"))  # noqa: S106
        backend.normalizer = normalizers.Lowercase()
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        other |= {"pad_token": "[PAD]", "mask_token": "[MASK]", "unk_token": "[UNK]"}
        super().__init__(tokenizer_object=backend, **other)

    @classmethod
    def from_pretrained(cls, name: Any, *_: Any, **options: Any) -> PlantCaduceusTokenizer:
        """The tokenizer of a checkpoint: the one above, unless its files name another vocabulary.

        Raises
        ------
        InputError
            If ``tokenizer.json`` holds a vocabulary other than :data:`VOCABULARY`.
        """
        keys = ("revision", "cache_dir", "token", "local_files_only")
        folder = find_checkpoint(str(name), **{k: options[k] for k in keys if k in options}).folder
        if (path := folder / "tokenizer.json").is_file():
            body = read_json(path).get("model")
            found = body.get("vocab") if isinstance(body, dict) else None
            if found != VOCABULARY:
                raise InputError(
                    f"{path}: vocabulary {found}; a PlantCaduceus checkpoint has {VOCABULARY}"
                )
        return cls()
