"""Tiny genomic models with random weights, saved as published ones are: one per kind of tokenizer."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    EsmConfig,
    EsmForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

WIDTH, LAYERS = 16, 2


def _spread(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Weights large enough that every token and its context show in the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.25, generator=generator)
    return model.eval()


def esm_six_mers(folder: Path, positions: int = 120) -> Path:
    """As AgroNT and Nucleotide Transformer: ESM, vocab.txt of 6-mers and single bases, CLS, no EOS."""
    words = ["".join(w) for w in product("ATCG", repeat=6)]
    vocabulary = ["<unk>", "<pad>", "<mask>", "<cls>", *words, *"ATCGN"]
    config = EsmConfig(
        vocab_size=len(vocabulary), hidden_size=WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=2, intermediate_size=24, pad_token_id=1, mask_token_id=2,
        position_embedding_type="absolute", max_position_embeddings=positions + 2,
        emb_layer_norm_before=False, token_dropout=True,
    )  # fmt: skip
    _spread(EsmForMaskedLM(config)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    settings = {
        "tokenizer_class": "EsmTokenizer", "eos_token": None, "model_max_length": positions,
        "clean_up_tokenization_spaces": True,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    specials = {"cls_token": "<cls>", "mask_token": "<mask>", "pad_token": "<pad>", "unk_token": "<unk>"}  # fmt: skip
    (folder / "special_tokens_map.json").write_text(json.dumps(specials))
    return folder


def bert_bpe(folder: Path) -> Path:
    """As DNABERT-2's tokenizer on a plain BERT: BPE trained on DNA, CLS and SEP, N unknown."""
    rng = np.random.default_rng(0)
    # Repeats of a few motifs, so that merges of many lengths are learned.
    motifs = ["".join(rng.choice(list("ACGT"), n)) for n in (3, 5, 8, 13)]
    texts = ["".join(rng.choice([*"ACGT", *motifs], 60)) for _ in range(200)]
    backend = Tokenizer(models.BPE(unk_token="[UNK]"))  # noqa: S106 # a token, no password
    trainer = trainers.BpeTrainer(
        vocab_size=60, special_tokens=["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"],
        show_progress=False,
    )  # fmt: skip
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",  # noqa: S106
        pad_token="[PAD]", mask_token="[MASK]",  # noqa: S106
    )  # fmt: skip
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=2, intermediate_size=24, max_position_embeddings=128, pad_token_id=3,
    )  # fmt: skip
    _spread(BertForMaskedLM(config), 1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def bert_overlapping(folder: Path, k: int = 3) -> Path:
    """As DNABERT: BERT, vocab.txt of k-mers, to be given words with spaces between."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary += ["".join(w) for w in product("ATCG", repeat=k)]
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=2, intermediate_size=24, max_position_embeddings=128,
    )  # fmt: skip
    _spread(BertForMaskedLM(config), 2).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def character_tokenizer(letters: str = "acgtn") -> PreTrainedTokenizerFast:
    """One token a base, BOS in front."""
    vocabulary = {t: i for i, t in enumerate(["<bos>", "<unk>", *letters])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", unk_token="<unk>")  # noqa: S106


def gpt2_characters(folder: Path) -> Path:
    """A causal model of lower-case bases, without a padding token."""
    tokenizer = character_tokenizer()
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=WIDTH, n_layer=LAYERS, n_head=2, n_positions=128,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    _spread(GPT2LMHeadModel(config), 3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def mamba_characters(folder: Path) -> Path:
    """A causal state-space model of lower-case bases, without a limit on length."""
    tokenizer = character_tokenizer()
    config = MambaConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, num_hidden_layers=LAYERS, state_size=4,
        bos_token_id=0, eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    _spread(MambaForCausalLM(config), 4).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
