"""The whole path on the real data in ../shared: figures that plain scripts gave are reached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import featurestore
from featurestore.build.engine import build
from tests.end_to_end.test_command_line import run

pytestmark = [pytest.mark.shared, pytest.mark.slow]


@pytest.fixture(scope="module")
def arabidopsis(shared_data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ath")
    data = shared_data / "ath_windows"
    (folder / "dataset.toml").write_text(
        f"""[species.arabidopsis_thaliana]
genome = "{data}/genome.fa.gz"
annotation = "{data}/genes.gff3.gz"
expression = "{data}/tpm_leaf.tsv.gz"
families = "{data}/families_plaza5_hom.tsv.gz"
"""
    )
    build(folder / "dataset.toml", folder / "store.zarr")
    return folder


def test_the_funnel_has_the_published_counts(arabidopsis):
    store = featurestore.open(arabidopsis / "store.zarr")
    counts = {s["stage"]: s["count"] for s in store.funnel("arabidopsis_thaliana")}
    assert counts == {"annotated": 1373, "windowed": 1373, "embedded": 1373, "labelled": 1335}


def test_start_codons_stand_where_the_annotation_has_them(arabidopsis, shared_data):
    """Independent of our GFF3 reader: CDS starts by pandas, bases from the stored windows."""
    gff = pd.read_csv(
        shared_data / "ath_windows" / "genes.gff3.gz", sep="\t", comment="#", header=None,
        names=["contig", "source", "type", "start", "end", "score", "strand", "phase", "attributes"],
    )  # fmt: skip
    cds = gff[gff.type == "CDS"].copy()
    cds["gene"] = cds.attributes.str.extract(r"Parent=([^.;]+)", expand=False)
    first = np.where(
        cds.strand == "+", cds.start - 1, -cds.end
    )  # the boundary before the first base
    start = pd.Series(first, index=cds.gene).groupby(level=0).min()
    store = featurestore.open(arabidopsis / "store.zarr")
    genes = store.genes("arabidopsis_thaliana")
    codes = store.features("arabidopsis_thaliana", "onehot")[:, 0]  # promoter: −4000 … +1000
    seen = right = 0
    for i, gene in enumerate(genes.gene.tolist()):
        if gene not in start:
            continue
        offset = 4000 + (
            start[gene] - genes.tss[i] if genes.strand[i] > 0 else start[gene] + genes.tss[i]
        )
        if 0 <= offset <= 4997:
            seen += 1
            right += codes[i, offset : offset + 3].tolist() == [0, 3, 2]
    assert seen > 1000
    assert right / seen > 0.97


def test_windows_equal_published_promoters(arabidopsis, shared_data):
    """EPD promoters (−200 … +50 of the EPD's own TSS) occur in the windows, on the right strand."""
    published = pd.read_csv(shared_data / "ath_flanks" / "epd_promoters_m200_p50.tsv.gz", sep="\t")
    from featurestore.sequence.iupac import decode

    store = featurestore.open(arabidopsis / "store.zarr")
    genes = store.genes("arabidopsis_thaliana").gene.tolist()
    both = published[published.gene_id.isin(genes)].drop_duplicates("gene_id").head(100)
    codes = store.features("arabidopsis_thaliana", "onehot", both.gene_id.tolist())[:, 0]
    found = [s in decode(c) for s, c in zip(both.sequence, codes, strict=True)]
    assert len(found) == 100
    assert np.mean(found) > 0.95


def test_ridge_reaches_what_plain_scripts_reached_and_shuffled_labels_nothing(arabidopsis):
    out = arabidopsis / "runs"
    run(
        "bench", "run", "--store", arabidopsis / "store.zarr", "--target", "mean", "--out", out,
        "--learner", "ridge", "--learner", "shuffled_labels",
    )  # fmt: skip
    score = {}
    for folder in out.iterdir():
        table = pd.read_parquet(folder / "metrics.parquet")
        name = folder.name.split("families-5fold.")[1].split("@")[0]
        score[name] = table[(table.metric == "r2") & (table.scope == "pooled")].value.item()
    assert score["ridge"] >= 0.27
    assert abs(score["shuffled_labels"]) <= 0.03


def test_ready_made_promoters_of_brassica_rapa(shared_data, tmp_path):
    data = shared_data / "bra_flanks"
    (tmp_path / "dataset.toml").write_text(
        f"""[regions]
promoter = {{ anchor = "tss", upstream = 1000, downstream = 0 }}
[species.brassica_rapa]
sequences = {{ promoter = "{data}/promoters_1kb.fa.gz" }}
expression = {{ file = "{data}/cpm_28samples.tsv.gz", unit = "CPM" }}
families = "{data}/families_via_ath_plaza5.tsv.gz"
"""
    )
    build(tmp_path / "dataset.toml", tmp_path / "store.zarr")
    store = featurestore.open(tmp_path / "store.zarr")
    assert store.funnel("brassica_rapa")[-1] == {"stage": "labelled", "count": 9263, "lost": []}
    assert store.features("brassica_rapa", "kmer").shape == (9263, 1, 4, 84)
