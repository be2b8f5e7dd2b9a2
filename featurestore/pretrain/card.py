"""The model card that a run writes: what the model is, saw, reached, and is not good for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from featurestore.pretrain.markov import BASELINES

FILE: Final = "README.md"
_POINTS: Final = 16

_LIMITS: Final = """\
A small model trained for minutes to an hour: a demonstration and a baseline, not a replacement of
the released PlantCaduceus models, which saw thousands of times as much sequence. Perplexity on
held-out sequence says how well bases are predicted, not that an embedding helps a task: compare
with `kmer` on yours. Near copies (paralogues, orthologues) of held-out sequence that share no
{word} bp in a row stay in training. N and other ambiguity codes are one unknown token.
"""

_USE: Final = """\
```python
from featurestore.embedders.plantcaduceus import PlantCaduceusForMaskedLM
model = PlantCaduceusForMaskedLM.from_pretrained("THIS FOLDER")
```

or in a `dataset.toml`:

```toml
[embedders.small]
type = "plantcaduceus"
checkpoint = "THIS FOLDER"
```
"""


def card_text(
    name: str, facts: Mapping[str, Any], evaluation: Mapping[str, Any] | None = None
) -> str:
    """The card, in Markdown.

    Parameters
    ----------
    name : str
        Of the model.
    facts : mapping
        ``pretraining.json`` of the run.
    evaluation : mapping, optional
        What :func:`featurestore.pretrain.evaluate.evaluate` gave.
    """
    parts = [
        f"# {name}", _about(facts), "## Use", _USE, "## Data", _data(facts),
        "## Held-out prediction", _evaluation(evaluation), "## Loss curve", _curve(facts),
        "## Limits", _LIMITS.format(word=facts["split"]["word_bp"]),
    ]  # fmt: skip
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _about(facts: Mapping[str, Any]) -> str:
    s = facts["settings"]
    return (
        f"PlantCaduceus architecture (bidirectional Mamba, equivariant to the reverse complement): "
        f"d_model {s['d_model']}, {s['n_layer']} layers, d_state {s['d_state']}, "
        f"{facts['parameters']:,} parameters, float32. Masked-token objective: 15 % of the bases "
        f"selected, of these 80 % [MASK], 10 % a random base, 10 % kept. Windows of {s['window']} bp, "
        f"{s['batch']} a step, {facts['steps']:,} steps, {facts['tokens'] / 1e6:.1f} million bases read, "
        f"{facts['seconds'] / 60:.0f} minutes on {facts['device']} ({facts['threads']} threads); AdamW, rate "
        f"{s['learning_rate']:g}, warm-up and cosine; seed {s['seed']}. Labels of no kind were used."
    )


def _data(facts: Mapping[str, Any]) -> str:
    split = facts["split"]
    rows = []
    for train, test in zip(split["train"]["sources"], split["held_out"]["sources"], strict=True):
        digest = ", ".join(f"{role} {d[:12]}" for role, d in train["digest"].items())
        rows.append(
            [train["source"], train["kind"], f"{train['records']:,} / {train['bases']:,}",
             f"{test['records']:,} / {test['bases']:,}", digest]
        )  # fmt: skip
    head = ("source", "records are", "trained on: records / bp", "held out: records / bp", "sha256")
    excluded = split["excluded_families"]
    more = f" {excluded} families were kept away from both sides." if excluded else ""
    return (
        f"{_table(head, rows)}\n\nHeld out by group (gene family, else gene, contig or line; {split['share']:.0%} of "
        f"the bases of each source): no group stands on both sides, in any source. Of the rest, "
        f"{split['blanked_bases']:,} bases that stand in a stretch of {split['word_bp']} bp or more shared with "
        f"held-out sequence, on either strand, read N in training.{more}"
    )


def _evaluation(evaluation: Mapping[str, Any] | None) -> str:
    if not evaluation:
        return "Not evaluated."
    parts = []
    for found in evaluation.values():
        value = found["perplexity"]
        names = ["model", "uniform", *BASELINES]
        best = min(BASELINES, key=lambda n: value[n])
        lead = found["lead"][best]
        rows = [
            [n, f"{value[n]:.3f}", *(f"{v[n]:.3f}" for v in found["by_source"].values())]
            for n in names
        ]
        parts.append(
            f"{found['hidden_at_once']:.0%} of the bases hidden at once ({found['bases']:,} bases of {found['windows']:,} windows):\n\n"
            + _table(["perplexity", "all", *found["by_source"]], rows)
            + f"\n\nLead on “{best}”: {lead['nats']:.4f} ± {lead['standard_error']:.4f} nats a base."
        )
    return (
        "Perplexity per hidden base among A, C, G, T, each read as [MASK]; 4 is chance. Baselines "
        "are counts of the training sequence, both strands, with add-one smoothing, at the same "
        "bases, and see all neighbours.\n\n" + "\n\n".join(parts)
    )


def _curve(facts: Mapping[str, Any]) -> str:
    curve = facts["curve"]
    every = max(1, -(-len(curve) // _POINTS))
    shown = [row for i, row in enumerate(curve) if (len(curve) - 1 - i) % every == 0]
    rows = [
        [f"{step:.0f}", f"{tokens / 1e6:.2f}", f"{seconds / 60:.1f}", f"{rate:.2e}", f"{a:.4f}", f"{b:.4f}" if b is not None else ""]
        for step, tokens, seconds, rate, a, b in shown
    ]  # fmt: skip
    head = ("step", "million bases", "minutes", "rate", "training loss", "held-out loss")
    return (
        f"{_table(head, rows)}\n\nNats a selected base; the whole curve is in `curve.tsv`. The held-out loss is that "
        "of the weights as they were, the model is their moving average."
    )
