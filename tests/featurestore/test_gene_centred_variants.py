"""Haplotypes under an embedder of one window a gene, and builds that are refused as too large."""

from __future__ import annotations

import hashlib
from collections import namedtuple

import numpy as np
import pytest
import xarray as xr

import featurestore
from benchmarks.tasks.haplotypes import haplotype_sources
from featurestore.build.array_jobs import plan_only
from featurestore.build.engine import build
from featurestore.build.planning import room
from featurestore.build.planning.estimate import estimate, render
from featurestore.build.work_area import WorkArea
from featurestore.build.workers.run import Voices
from featurestore.errors import InputError, StorageError
from featurestore.inputs.model import Region
from featurestore.schema import registered
from featurestore.sequence.iupac import encode
from featurestore.store.verify import verify
from tests.builders.gene_embedder import registered_composition
from tests.builders.species import random_species
from tests.builders.variants import contig_texts, random_records
from tests.featurestore.test_gene_centred import BINS, GENES, SETTINGS, dataset, shares, window
from tests.featurestore.test_variants import LINES, apply_named, gene_ends, with_variants


@pytest.fixture
def kind():
    with registered_composition() as made:
        yield made


def with_haplotypes(folder, **species):
    one = random_species("plant", genes=24, seed=9, **species)
    path = with_variants(folder, one, random_records(one, len(LINES), seed=1), mode="haplotypes", embedders='["onehot", "long"]')  # fmt: skip
    text = path.read_text()
    path.write_text(text.replace("[species.", f"{SETTINGS}[species.", 1))
    return one, path


def test_a_haplotype_is_embedded_as_its_edited_window_reads(tmp_path, kind):
    one, path = with_haplotypes(tmp_path / "in")
    build(path, tmp_path / "s.zarr")
    store = featurestore.open(tmp_path / "s.zarr")
    view, texts = store.variants("plant", "mutants"), contig_texts(one)
    reference = store.features("plant", "long")
    want, codes = {}, []
    for haplotype in range(len(view.haplotype)):
        gene = int(view.haplotype_gene[haplotype])
        contig, ends, strand = one.contig[gene], gene_ends(one, gene), int(one.strand[gene])
        text, (low, high) = apply_named(
            texts[contig], contig, view.haplotype_variants[haplotype], ends
        )
        new = window(text, low if strand > 0 else high, strand)
        if new != window(texts[contig], int(one.tss[gene]), strand):
            want[haplotype] = shares(new)
            codes.append(encode(new))
    rows = view.changed("long")
    assert rows.haplotype.tolist() == list(want)
    assert len(want) > 20
    assert not rows.region.any()
    assert rows.bin is not None
    assert not rows.bin.any()
    np.testing.assert_allclose(rows.read(), np.stack(list(want.values())), atol=5e-4)
    digest = store.array("plant", "variants/mutants/long/input_digest")
    assert [d.tobytes() for d in digest] == [
        hashlib.blake2b(c.tobytes(), digest_size=16).digest() for c in codes
    ]
    genes = rows.gene[:5].astype(np.int64)
    got = view.features("long", np.append(genes, 3), np.append(rows.haplotype[:5], -1))
    np.testing.assert_array_equal(got, np.concatenate([rows.read()[:5], reference[[3]]]))
    scalar = view.features("long.gc", genes, rows.haplotype[:5])
    np.testing.assert_allclose(scalar, got[:5, :, 1] + got[:5, :, 2], atol=1e-3)
    for feature in ("long", "long.gc"):
        source = haplotype_sources(store, view, feature, genes, rows.haplotype[:5])[feature]
        whole = view.features(feature, genes, rows.haplotype[:5])
        np.testing.assert_array_equal(source.read(np.arange(5)).reshape(whole.shape), whole)


def test_haplotypes_are_read_by_xarray_verified_and_reused(tmp_path, kind):
    _, path = with_haplotypes(tmp_path / "in")
    target = tmp_path / "s.zarr"
    build(path, target)
    assert len(kind.seen) == len(set(kind.seen)), "equal windows are computed once"
    group = xr.open_datatree(target, engine="zarr")["plant/variants/mutants/long"]
    assert group.embedding.dims == ("row", "bin", "channel")
    assert registered("variants/mutants/long/embedding", group.embedding.dims).path == (
        "variants/<set>/<gene-embedder>/<output>"
    )
    assert verify(target).intact
    kind.seen.clear()
    vcf = path.with_name("v.vcf")
    lines = vcf.read_text().splitlines(keepends=True)
    vcf.write_text("".join(lines[:-1]))
    build(path, target)
    assert not kind.seen, "what is left was known"
    assert verify(target).intact


def test_haplotypes_of_other_windows_only_are_refused(tmp_path, kind):
    _, path = with_haplotypes(tmp_path / "in", regions=(Region("terminator", "tts", 100, 400),))
    with pytest.raises(InputError, match="none of which lies around the TSS"):
        build(path, tmp_path / "s.zarr")


def test_very_much_is_made_only_when_it_is_asked_for(tmp_path, kind, monkeypatch):
    path, target = dataset(tmp_path / "in"), tmp_path / "s.zarr"
    each = BINS * 5 * 2
    monkeypatch.setattr(room, "LARGE", each * GENES - 1)
    told = render(estimate(path, target, (), ()))
    assert f"{each} bytes of vectors a gene" in told
    assert "only with --large" in told
    assert len(kind.seen) == 1, "one window is tried, to see how long it takes"
    kind.seen.clear()
    for start in (build, lambda *a: plan_only(*a, (), (), Voices(lambda _: None))):
        with pytest.raises(InputError, match=rf"{each} bytes a gene.*30 windows.*--large"):
            start(path, target)
    assert not kind.seen
    build(path, target, large=True)
    monkeypatch.setattr(room, "LARGE", 0)
    build(path, target, embedders=["kmer"])  # what is there already is not asked about again
    monkeypatch.setattr(room, "LARGE", each * GENES)
    assert "--large" not in render(estimate(path, tmp_path / "other.zarr", (), ()))
    build(path, tmp_path / "other.zarr")


def test_a_disk_too_small_is_told_before_anything_is_computed(tmp_path, kind, monkeypatch):
    path, target = dataset(tmp_path / "in"), tmp_path / "s.zarr"
    need = GENES * (BINS * 5 * 2 + 1 + 4 + 16)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: usage(10**9, 0, need - 1))
    with pytest.raises(
        StorageError, match=rf"{need:,} bytes.*{need - 1:,} bytes are free.*make room"
    ):
        build(path, target)
    assert not kind.seen
    assert WorkArea.beside(target).root.exists()
    monkeypatch.undo()
    with registered_composition():
        build(path, target)
