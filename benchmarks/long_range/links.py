"""Links of genes and elements: scores of the model, of distance, of activity, and how well each does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from benchmarks.long_range import contributions as parts
from benchmarks.long_range.attribution import attention, gradient_x_input, integrated_gradients
from benchmarks.long_range.genes import Element, Gene, near, read_elements
from benchmarks.long_range.models import WindowModel, for_species
from benchmarks.long_range.pairs import elements_of, joined, read_pairs, strata
from benchmarks.long_range.responses import Responses
from benchmarks.long_range.saturation import strength
from benchmarks.long_range.session import Session
from benchmarks.runs.files import write_atomic
from benchmarks.scores.areas import AREAS
from benchmarks.scores.stats import family_weights, percentile_interval
from benchmarks.text import align, number
from featurestore.errors import InputError, MissingDependencyError

Tell = Callable[[int, int], None]

DISTANCE: Final = "inverse_distance"
DECAY: Final = 25_000.0
NEAREST: Final = 5_000
"""Below it contact is taken for constant, as ABC does."""

NOT_SCORES: Final = frozenset(
    {"species", "gene", "element", "contig", "start", "end", "distance", "label", "effect", "tested"}
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """Which scores, and how they are judged.

    Parameters
    ----------
    scores : sequence of str
        Methods of contributions, and ``mutagenesis``.
    tracks, heads : sequence of str
    around : int
        Gradients and attention are taken over so many bp to either side of an element's middle; 0:
        over its own bases.
    shuffles : int
    activity : Path, optional
        bigWig of measured activity.
    activity_track : str, optional
        Predicted track that stands for it.
    gamma : float
        Contact falls by distance to that power.
    edges : sequence of int
        Of the strata of distance.
    bootstrap, seed : int
    """

    scores: Sequence[str]
    tracks: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    around: int = 0
    shuffles: int = 5
    activity: Path | None = None
    activity_track: str | None = None
    gamma: float = 1.024
    edges: tuple[int, ...] = (10_000, 30_000, 100_000)
    bootstrap: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.activity is not None and self.activity_track:
            raise InputError("--activity and --activity-track: give one of them")
        if list(self.edges) != sorted(set(self.edges)) or min(self.edges, default=1) < 1:
            raise InputError(f"--bins {self.edges}: give rising numbers from 1")


@dataclass
class Linked:
    """What was found.

    Parameters
    ----------
    rows : int
        Pairs of a gene and an element with scores.
    areas : list of mapping
        ``score, stratum, metric, value, ci_low, ci_high, minus_distance`` with interval, ``n,
        n_positive, n_genes``.
    """

    rows: int
    areas: list[dict[str, Any]]
    facts: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        from featurestore.plain_json import plain

        found: dict[str, Any] = plain(
            {"rows": self.rows, "areas": self.areas, "facts": self.facts, "notes": self.notes}
        )
        return found

    def text(self) -> str:
        """Aligned columns: auPRC with its interval and its lead over distance, auROC beside it."""
        auroc = {
            (a["stratum"], a["score"]): a["value"] for a in self.areas if a["metric"] == "auroc"
        }
        body = [
            [
                a["stratum"], a["score"], number(a["value"]),
                f"[{number(a['ci_low'])}, {number(a['ci_high'])}]",
                number(a["minus_distance"], sign=True),
                f"[{number(a['difference_low'], sign=True)}, {number(a['difference_high'], sign=True)}]",
                number(auroc[a["stratum"], a["score"]]), f"{a['n_positive']:,} / {a['n']:,}",
                f"{a['n_genes']:,}",
            ]
            for a in self.areas if a["metric"] == "auprc"
        ]  # fmt: skip
        head = ["distance", "score", "auPRC", "95 % interval", "less 1/distance", "95 % interval", "auROC", "positive", "genes"]  # fmt: skip
        return align(head, body, {2, 4, 6, 7, 8})


def link(
    session: Session, asked: Asked, element_file: Path | None, pair_file: Path | None, out: Path,
    tell: Tell | None = None,
) -> Linked:  # fmt: skip
    """Score all candidate elements of all genes, and hold the scores against tested pairs.

    Writes the table ``out`` and, where pairs are given, their areas beside it as ``.json``.
    """
    if out.suffix != ".parquet":
        raise InputError(f"{out}: the table of links is written as .parquet")
    pairs = None if pair_file is None else read_pairs(pair_file)
    if element_file is not None:
        elements = read_elements(element_file)
    else:
        assert pairs is not None  # noqa: S101 - the command asks for one of them
        elements = elements_of(pairs)
    genes = session.genes
    if pairs is not None:
        named = set(pairs["gene"])
        genes = [g for g in genes if g.name in named]
    table = score_links(session, asked, genes, elements, tell)
    facts = {**session.facts(), **_facts(asked), "genes": len(genes)}
    areas: list[dict[str, Any]] = []
    if pairs is not None:
        held = joined(pairs, table, session.tally)
        areas = areas_of(held, asked.edges, asked.bootstrap, asked.seed)
        facts["pairs"], facts["pairs_scored"] = len(pairs), len(held)
        table = table.merge(
            held[["species", "gene", "element", "label", *(("effect",) if "effect" in held else ())]]
            .drop_duplicates(["species", "gene", "element"]),
            on=["species", "gene", "element"], how="left",
        )  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(out, index=False)
    notes = [
        *session.notes,
        *(_without(areas, held["distance"], asked) if pairs is not None else []),
    ]
    found = Linked(len(table), areas, {**facts, "left_out": session.tally.facts()}, notes)
    _write(out.with_suffix(".json"), found)
    return found


def _without(areas: Sequence[Any], distance: pd.Series, asked: Asked) -> list[str]:
    """Strata that nothing can be told of."""
    have = {a["stratum"] for a in areas}
    return [
        f"of the {rows.sum():,} pairs at {name} all have one label, so that no area is told"
        for name, rows in strata(distance, asked.edges) if rows.any() and name not in have
    ]  # fmt: skip


def _facts(asked: Asked) -> dict[str, Any]:
    return {
        "scores": list(asked.scores), "tracks": list(asked.tracks), "around": asked.around,
        "activity": asked.activity_track or (str(asked.activity) if asked.activity else None),
        "gamma": asked.gamma, "bootstrap": asked.bootstrap,
    }  # fmt: skip


def _write(path: Path, found: Linked) -> None:
    import json

    write_atomic(path, (json.dumps(found.as_json(), indent=1) + "\n").encode())


def score_links(
    session: Session, asked: Asked, genes: Sequence[Gene], elements: Sequence[Element],
    tell: Tell | None = None,
) -> pd.DataFrame:  # fmt: skip
    """One row per gene and element of its window: distance, and every score, higher for likelier."""
    tables = []
    for number_, gene in enumerate(genes, 1):
        model = for_species(session.model, gene.species, asked.tracks, asked.heads)
        inside = near(gene, elements, model.input_bp, session.tally)
        if inside:
            tables.append(_of_gene(session, model, gene, inside, asked))
        else:
            session.tally.add("gene without a candidate element in its window", gene.name)
        if tell:
            tell(number_, len(genes))
    if not tables:
        raise InputError("no candidate element lies in the window of any gene")
    return pd.concat(tables, ignore_index=True)


def _of_gene(
    session: Session, model: WindowModel, gene: Gene, elements: list[Element], asked: Asked
) -> pd.DataFrame:
    distance = np.array([gene.distance(e.start, e.end) for e in elements], np.int64)
    columns: dict[str, Any] = {
        "species": gene.species, "gene": gene.name, "element": [e.name for e in elements],
        "contig": gene.contig, "start": [e.start for e in elements],
        "end": [e.end for e in elements], "distance": distance,
    }  # fmt: skip
    codes = session.windows.window(gene, model.input_bp)
    responses = Responses(model, session.windows, gene)
    for score in asked.scores:
        columns[score] = _score(session, model, responses, codes, elements, score, asked)
    columns[DISTANCE] = 1 / np.maximum(distance, 1)
    columns["exp_distance"] = np.exp(-distance / DECAY)
    activity = _activity(session, gene, elements, asked)
    if activity is not None:
        reached = activity * np.maximum(distance, NEAREST) ** -asked.gamma
        columns["activity"] = activity
        columns["abc"] = reached / max(float(reached.sum()), 1e-30)
    return pd.DataFrame(columns)


def _score(
    session: Session, model: WindowModel, responses: Responses, codes: Any,
    elements: list[Element], score: str, asked: Asked,
) -> Any:  # fmt: skip
    gene = responses.gene
    if score == "attention":
        bins = attention(model, codes)
        return [parts.mean_over(bins, gene, e, model.bin_bp, asked.around) for e in elements]
    if score == "gradient_x_input" or score == "integrated_gradients":
        method = gradient_x_input if score == "gradient_x_input" else integrated_gradients
        bases = method(model, codes).bases
        return [parts.mean_abs_over(bases, gene, e, asked.around) for e in elements]
    if score == "mutagenesis":
        return [strength(responses, session.windows, e) for e in elements]
    how = parts.Asked(score, asked.tracks, asked.heads, shuffles=asked.shuffles, seed=asked.seed)
    return np.abs(parts.of_elements(responses, session.windows, elements, how))


def _activity(session: Session, gene: Gene, elements: list[Element], asked: Asked) -> Any:
    if asked.activity is not None:
        return _measured(asked.activity, elements)
    if not asked.activity_track:
        return None
    model = for_species(session.model, gene.species, [asked.activity_track], asked.heads)
    codes = session.windows.window(gene, model.input_bp)
    bins = model.predict(codes[None])[0].sum(axis=1)
    margin = (model.input_bp // model.bin_bp - len(bins)) // 2
    # Elements beyond the predicted bins have no predicted activity.
    whole = np.pad(bins.astype(np.float64), margin)
    return np.array([parts.mean_over(whole, gene, e, model.bin_bp) for e in elements])


def _measured(path: Path, elements: list[Element]) -> Any:
    """Mean of a bigWig file over elements; bases without a value count as 0."""
    try:
        import pyBigWig
    except ImportError as error:
        raise MissingDependencyError(
            "bigWig files are read with pyBigWig: pip install 'meristem[tracks]'"
        ) from error
    try:
        file = pyBigWig.open(str(path))
    except RuntimeError as error:
        raise InputError(f"{path}: is no readable bigWig file") from error
    try:
        lengths = file.chroms()
        found = []
        for e in elements:
            low, high = max(e.start, 0), min(e.end, lengths.get(e.contig, 0))
            own = file.stats(e.contig, low, high, type="sum", exact=True)[0] if low < high else None
            found.append(float(own or 0.0) / (e.end - e.start))
    finally:
        file.close()
    return np.array(found)


def areas_of(
    table: pd.DataFrame, edges: Sequence[int], bootstrap: int, seed: int
) -> list[dict[str, Any]]:
    """Areas under curves of every score by stratum of distance, and their lead over distance alone.

    Intervals come from a bootstrap that draws genes, each with all its pairs, the same draws for all
    scores of a stratum.

    Parameters
    ----------
    table : DataFrame
        ``gene, distance, label`` and scores.
    """
    scores = [c for c in table.columns if c not in NOT_SCORES]
    found: list[dict[str, Any]] = []
    for stratum, rows in strata(table["distance"], edges):
        here = table[rows]
        label = here["label"].to_numpy(np.float64)
        if not 0 < label.sum() < len(label):
            continue
        gene, names = pd.factorize(here["gene"])
        drawn = [w[:, gene] for w in family_weights(len(names), bootstrap, seed)]
        one = np.ones((1, len(here)))
        for metric, area in AREAS.items():
            base = here[DISTANCE].to_numpy(np.float64)
            of_base = float(area(label, base, one)[0])
            base_drawn = _drawn(area, label, base, drawn)
            for score in scores:
                own = here[score].to_numpy(np.float64)
                value, own_drawn = float(area(label, own, one)[0]), _drawn(area, label, own, drawn)
                low, high = percentile_interval(own_drawn)
                d_low, d_high = percentile_interval(own_drawn - base_drawn)
                found.append({
                    "stratum": stratum, "score": score, "metric": metric, "value": value,
                    "ci_low": low, "ci_high": high, "minus_distance": value - of_base,
                    "difference_low": d_low, "difference_high": d_high, "n": len(here),
                    "n_positive": int(label.sum()), "n_genes": len(names),
                })  # fmt: skip
    return found


def _drawn(area: Any, label: Any, score: Any, drawn: Sequence[Any]) -> Any:
    return np.concatenate([area(label, score, w) for w in drawn]) if drawn else np.zeros(0)
