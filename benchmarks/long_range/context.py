"""How much sequence a prediction rests on: the middle of a window kept, the rest taken away."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.long_range.genes import predictions_of
from benchmarks.long_range.models import Opened, for_species
from benchmarks.long_range.responses import of_windows, shuffled
from benchmarks.long_range.session import Session
from benchmarks.scores.metrics import METRICS, bootstrap_scores, score
from benchmarks.scores.stats import percentile_interval
from benchmarks.text import align, number
from featurestore.errors import InputError
from featurestore.sequence.iupac import N

Tell = Callable[[int, int], None]
Codes = NDArray[np.uint8]
Key = tuple[str, str]

LENGTHS: Final = (2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 196_608)
RESTS: Final = ("n", "shuffled")


@dataclass(frozen=True)
class Asked:
    """What is computed.

    Parameters
    ----------
    tracks, heads : sequence of str
    lengths : sequence of int
        Bases that are kept, half to either side of the TSS; those beyond the window are left out, and
        the whole window is the last.
    rest : {"n", "shuffled"}
        What stands in the place of the rest: N, or the rest shuffled so that dinucleotides stay as many.
    bootstrap, seed : int
    """

    tracks: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    lengths: tuple[int, ...] = LENGTHS
    rest: str = "n"
    bootstrap: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rest not in RESTS:
            raise InputError(f"rest {self.rest!r}: choose n or shuffled")
        if min(self.lengths, default=0) < 2:
            raise InputError("--lengths: give bases from 2")


def kept(codes: Codes, length: int, rest: str = "n", seed: int = 0) -> Codes:
    """A window of which the middle ``length`` bases are as they were.

    Parameters
    ----------
    rest : {"n", "shuffled"}
        Either side is shuffled for itself.
    """
    whole = len(codes)
    if length >= whole:
        return codes.copy()
    low = whole // 2 - length // 2
    high = low + length
    out = np.full(whole, N, np.uint8)
    if rest == "shuffled":
        for number, side in enumerate((slice(0, low), slice(high, whole))):
            out[side] = shuffled(codes[side], 1, seed + number)[0]
    out[low:high] = codes[low:high]
    return out


def lengths_of(asked: Asked, input_bp: int) -> list[int]:
    """Those that are asked for and shorter than the window, and the window."""
    return [*sorted({n for n in asked.lengths if n < input_bp}), input_bp]


def predict_kept(session: Session, asked: Asked, tell: Tell | None = None) -> pd.DataFrame:
    """Responses by gene and length: ``species, gene, family, length, prediction``.

    Predictions of tracks are log2(1 + the mean of the bins at the TSS), summed over tracks before;
    those of expression as they are.
    """
    rows = []
    for index, gene in enumerate(session.genes, 1):
        model = for_species(session.model, gene.species, asked.tracks, asked.heads)
        codes = session.windows.window(gene, model.input_bp)
        lengths = lengths_of(asked, model.input_bp)
        for length in lengths:
            own = kept(codes, length, asked.rest, 2 * (asked.seed + index))
            value = float(of_windows(model, own[None])[0].sum())
            if session.opened.unit == "log2(1+signal)":
                value = float(np.log2(1 + max(value, 0.0)))
            rows.append((gene.species, gene.name, gene.family, length, value))
        if tell:
            tell(index, len(session.genes))
    return pd.DataFrame(rows, columns=["species", "gene", "family", "length", "prediction"])


def measured_of_run(opened: Opened, tracks: Sequence[str]) -> dict[Key, float]:
    """Measured values of the genes under test: means over the targets that are meant."""
    table = predictions_of(opened)
    # Runs of tracks name them as samples, runs of expression by target or sample.
    columns = [name for name in ("sample", "target") if name in table]
    if tracks and columns:
        names = {t.split(":")[-1] for t in tracks}
        own = table[columns].astype(str).map(lambda cell: cell.split(":")[-1] in names)
        table = table[own.any(axis=1)]
    table = table[np.isfinite(table["y_true"])]
    if not len(table):
        raise InputError("the run measured none of the tracks that are asked for")
    means = table.groupby(["species", "gene"], sort=False, observed=True)["y_true"].mean()
    return {(str(s), str(g)): float(v) for (s, g), v in means.items()}


def measured_of_tracks(path: Path, session: Session, tracks: Sequence[str]) -> dict[Key, float]:
    """Measured tracks at the TSS, log2(1 + mean over three bins), means over the tracks that are meant."""
    from benchmarks.inputs.tracks.signals import read_signals
    from benchmarks.tracks.genes import tss_bins

    species = sorted({g.species for g in session.genes})
    contigs = {s: dict(session.windows.genome(s).contigs) for s in species}
    signals = read_signals(path, contigs, session.windows.store.species, session.model.bin_bp)
    table = pd.DataFrame([g._asdict() for g in session.genes]).rename(columns={"name": "gene"})
    truth = tss_bins(table, signals).truth
    names = {t.split(":")[-1] for t in tracks}
    chosen = [i for i, spec in enumerate(signals.tracks) if not names or spec.track in names]
    if not chosen:
        raise InputError(f"{path}: holds none of the tracks {', '.join(sorted(names))}")
    found = {}
    for gene, row in zip(session.genes, truth[:, chosen], strict=True):
        known = row[np.isfinite(row)]
        if len(known):
            found[gene.species, gene.name] = float(known.mean())
    return found


def curve(
    table: pd.DataFrame, measured: Mapping[Key, float] | None, *, bootstrap: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Correlations by length, with the prediction from the whole window and with what was measured.

    Intervals are bootstraps over gene families; the same draws for all lengths, so that what a length
    adds to the shortest has an interval of its own.

    Returns
    -------
    DataFrame
        ``against`` (full, measured), ``length``, ``metric`` (pearson, spearman), ``value, ci_low,
        ci_high``, ``gain`` over the shortest with ``gain_low, gain_high``, ``n``, ``n_families``.
    """
    wide = table.pivot_table(
        index=["species", "gene", "family"], columns="length", values="prediction", sort=False
    ).reset_index()
    lengths = sorted(int(n) for n in table["length"].unique())
    full = wide[lengths[-1]].to_numpy(np.float64)
    against = {"full": full}
    if measured is not None:
        keys = zip(wide["species"], wide["gene"], strict=True)
        against["measured"] = np.array([measured.get(key, np.nan) for key in keys])
    rows = []
    for name, truth in against.items():
        known = np.isfinite(truth)
        if known.sum() < 3:
            continue
        family, names = pd.factorize(wide["family"][known])
        values, drawn = [], []
        for length in lengths:
            own = wide[length].to_numpy(np.float64)[known]
            values.append(score(truth[known], own))
            drawn.append(
                bootstrap_scores(
                    truth[known], own, family.astype(np.intp), np.zeros(len(own), np.intp),
                    (len(names), 1), replicates=bootstrap, seed=seed,
                )[:, 0] if bootstrap else np.zeros((0, len(METRICS)))
            )  # fmt: skip
        rows += _rows(name, lengths, values, drawn, int(known.sum()), len(names))
    return pd.DataFrame(rows)


def _rows(
    against: str, lengths: Sequence[int], values: Sequence[Any], drawn: Sequence[Any], n: int,
    families: int,
) -> list[dict[str, Any]]:  # fmt: skip
    found = []
    for index, length in enumerate(lengths):
        for metric in ("pearson", "spearman"):
            at = METRICS.index(metric)
            low, high = percentile_interval(drawn[index][:, at])
            g_low, g_high = percentile_interval(drawn[index][:, at] - drawn[0][:, at])
            found.append({
                "against": against, "length": length, "metric": metric,
                "value": float(values[index][at]), "ci_low": low, "ci_high": high,
                "gain": float(values[index][at] - values[0][at]), "gain_low": g_low,
                "gain_high": g_high, "n": n, "n_families": families,
            })  # fmt: skip
    return found


def text(found: pd.DataFrame) -> str:
    """Aligned columns."""
    rows: list[dict[Any, Any]] = found.to_dict("records")
    body = [
        [
            r["against"], f"{r['length']:,}", r["metric"], number(r["value"]),
            f"[{number(r['ci_low'])}, {number(r['ci_high'])}]", number(r["gain"], sign=True),
            f"[{number(r['gain_low'], sign=True)}, {number(r['gain_high'], sign=True)}]",
            f"{r['n']:,}",
        ]
        for r in rows
    ]  # fmt: skip
    head = ["against", "bp kept", "metric", "value", "95 % interval", "over the shortest", "95 % interval", "genes"]  # fmt: skip
    return align(head, body, {1, 3, 5, 7})


def draw_curve(path: Path, found: pd.DataFrame, rest: str, *, simulated: bool) -> None:
    """The curve as a picture (.svg or .png)."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "meristem", "svg.fonttype": "none"}):
        figure = Figure(figsize=(5.4, 3.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for against, colour in (("full", "#1f5fbf"), ("measured", "#c0272d")):
            own = found[(found["against"] == against) & (found["metric"] == "pearson")]
            if len(own):
                x = own["length"] / 1000
                axes.plot(
                    x, own["value"], "o-", ms=3.5, lw=1.4, color=colour, label=f"with {against}"
                )
                axes.fill_between(x, own["ci_low"], own["ci_high"], color=colour, alpha=0.15, lw=0)
        axes.set_xscale("log")
        ticks = sorted(found["length"].unique() / 1000)
        axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes.minorticks_off()
        axes.set_xlabel("bases kept around the TSS, kb; the rest " + ("N" if rest == "n" else rest), fontsize=8)  # fmt: skip
        axes.set_ylabel("Pearson", fontsize=8)
        axes.set_title("SIMULATED data" if simulated else "", fontsize=8, loc="left")
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
        metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, metadata=metadata)
