"""Embedder ``enformer``: what a store holds of it, against the model called by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import featurestore
from benchmarks.cli import bench
from featurestore.build.engine import build
from featurestore.embedders.registry import make_embedder
from featurestore.errors import InputError
from tests.builders.dataset import write_dataset
from tests.builders.models import random_enformer
from tests.builders.species import random_species
from tests.featurestore.test_gene_centred import MIRROR, contigs

torch = pytest.importorskip("torch", reason="Enformer is a torch model")

LENGTH, BINS, BIN = 512, 8, 32


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return random_enformer(tmp_path_factory.mktemp("model") / "small")


def dataset(folder: Path, checkpoint: Path, further: str = "", genes: int = 12) -> Path:
    text = f'[embedders.enformer]\ncheckpoint = "{checkpoint}"\n{further}\n'
    one = random_species("plant", genes=genes, contigs=2, contig_bp=4000)
    return write_dataset(folder, one, embedders='["onehot", "enformer"]', extra=text)


def by_hand(checkpoint: Path, texts: list[str]) -> np.ndarray:
    """The trunk of windows given as text, shape (n, bins, channels), straight from the model."""
    from featurestore.embedders.enformer import Enformer

    letters = np.array([list(text) for text in texts])
    one_hot = np.stack([letters == letter for letter in "ACGT"], axis=-1).astype(np.float32)
    model = Enformer.from_pretrained(checkpoint)
    with torch.no_grad():
        return model.embed(torch.from_numpy(one_hot)).numpy()


def window(sequence: str, boundary: int, strand: int, shift: int = 0) -> str:
    """Cut from the FASTA by plain slicing; a positive shift is downstream."""
    padded = "N" * 1000 + sequence + "N" * 1000
    at = 1000 + boundary + shift * strand
    piece = padded[at - LENGTH // 2 : at + LENGTH // 2]
    return piece if strand > 0 else piece[::-1].translate(MIRROR)


def windows(folder: Path, store, shift: int = 0) -> list[str]:
    genome, genes = contigs(folder / "plant.fa"), store.genes("plant")
    places = zip(genes.contig.tolist(), genes.tss.tolist(), genes.strand.tolist(), strict=True)
    return [window(genome[c], tss, strand, shift) for c, tss, strand in places]


def test_the_summary_at_the_tss_is_the_mean_of_the_three_bins_around_it(tmp_path, checkpoint):
    build(dataset(tmp_path / "in", checkpoint), tmp_path / "s.zarr")
    store = featurestore.open(tmp_path / "s.zarr")
    got = store.features("plant", "enformer")
    trunk = by_hand(checkpoint, windows(tmp_path / "in", store))
    assert got.shape == (12, 1, 24)
    np.testing.assert_allclose(got[:, 0], trunk[:, 3:6].mean(1), atol=2e-3)
    assert np.ptp(got, axis=0).max() > 0.01, "windows differ, and so do their vectors"
    np.testing.assert_array_equal(store.array("plant", "enformer/bin_start"), [-BIN])
    assert set(store.genes("plant").strand.tolist()) == {1, -1}
    attrs = store.embedder_attrs("plant", "enformer")
    assert (attrs["checkpoint"], attrs["pretraining_species"]) == ("small", ["homo_sapiens"])
    assert str(tmp_path) not in str(attrs)


def test_trunk_strands_and_shifts_are_means_of_the_model_on_windows_cut_by_hand(
    tmp_path, checkpoint
):
    further = 'keep = "trunk"\nstrands = "average"\nshifts = [-3, 0, 4]'
    build(dataset(tmp_path / "in", checkpoint, further), tmp_path / "s.zarr")
    store = featurestore.open(tmp_path / "s.zarr")
    passes = []
    for shift in (-3, 0, 4):
        texts = windows(tmp_path / "in", store, shift)
        passes.append(by_hand(checkpoint, texts))
        turned = [text[::-1].translate(MIRROR) for text in texts]
        passes.append(by_hand(checkpoint, turned)[:, ::-1])
    got = store.features("plant", "enformer")
    np.testing.assert_allclose(got, np.mean(passes, axis=0), atol=2e-3)
    assert np.abs(passes[0] - passes[1]).max() > 0.01, "the strands differ"
    assert store.embedder_attrs("plant", "enformer")["input_bp"] == LENGTH + 8
    np.testing.assert_array_equal(
        store.array("plant", "enformer/bin_start"), np.arange(BINS) * BIN - BINS * BIN // 2
    )


def test_a_number_keeps_means_of_groups_and_bin_start_says_where(checkpoint):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (2, LENGTH)).astype(np.uint8)
    whole = make_embedder("enformer", {"checkpoint": str(checkpoint), "keep": "trunk"})
    trunk = whole.embed(codes)["embedding"]
    for count in (1, 2, 4):
        some = make_embedder("enformer", {"checkpoint": str(checkpoint), "keep": count})
        size = BINS // count
        want = trunk.reshape(2, count, size, -1).mean(2)
        np.testing.assert_allclose(some.embed(codes)["embedding"], want, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(some.spec.bin_start(), whole.spec.bin_start()[::size])
    assert whole.spec.bin_start()[BINS // 2] == 0, "a bin begins at the TSS"


def test_what_decides_values_is_in_the_identity_and_nothing_else(checkpoint):
    def identity(**settings):
        return make_embedder("enformer", {"checkpoint": str(checkpoint), **settings}).spec.identity_digest()  # fmt: skip

    plain = identity()
    assert plain == identity(batch=2) == identity(licence="x", pretraining_species=["zea_mays"])
    assert plain == identity(shifts=[0], strands="forward", keep="tss")
    others = [
        identity(**s)
        for s in ({"keep": "trunk"}, {"strands": "average"}, {"shifts": [0, 1]}, {"dtype": "bf16"})
    ]
    assert len({plain, *others}) == 5


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"keep": 3}, "1, 2, 4, 8"), ({"keep": "all"}, '"tss", "trunk"'), ({"strands": "both"}, "average"),
        ({"shifts": [1, 1]}, "different whole numbers"), ({"shifts": []}, "different whole numbers"),
        ({"dtype": "fp16"}, "fp32, bf16"), ({"batch": 0}, "from 1"), ({"checkpoint": ""}, "EleutherAI"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(checkpoint, settings, told):
    with pytest.raises(InputError, match=told):
        make_embedder("enformer", {"checkpoint": str(checkpoint), **settings})


def test_learners_take_it_as_it_is_and_pooled(tmp_path, checkpoint):
    from click.testing import CliRunner

    build(dataset(tmp_path / "in", checkpoint, "keep = 4", genes=60), tmp_path / "s.zarr")
    arguments = ["run", "--store", tmp_path / "s.zarr", "--learner", "ridge", "--learner", "ridge@enformer:pooled", "--features", "enformer", "--out", tmp_path / "runs"]  # fmt: skip
    done = CliRunner().invoke(bench, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    assert "enformer:pooled" in done.output
    assert "leave-one-chromosome-out" in done.output, "windows as long as these overlap over folds"
