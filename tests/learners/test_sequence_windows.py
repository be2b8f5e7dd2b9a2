"""What of the stored regions a sequence network reads: marker sequences at known coordinates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featurestore.errors import InputError
from learners.base import Budget
from learners.batch import ArraySource, Block, FeatureBatch
from learners.layout import check_layout, layout_of

torch = pytest.importorskip("torch")

from learners.neural.deepcre import DeepCRE  # noqa: E402
from learners.neural.deepcre_network import WINDOWS  # noqa: E402
from learners.neural.onehot_windows import Bases, Window, cut  # noqa: E402
from learners.neural.phytoexpr_networks import windows as phytoexpr_windows  # noqa: E402

A, C, G, T, N = range(5)
EMPRES = [("tss", 4000, 1000), ("tts", 1000, 4000)]
DEMO = [("tss", 1500, 500), ("tts", 500, 1500)]
"""Windows of which deepCRE needs less than is stored upstream, and all downstream."""


def store_like(regions: list[tuple[str, int, int]], codes: np.ndarray) -> FeatureBatch:
    """A batch whose codes say where their regions lie, as those of a store do."""
    anchor, upstream, downstream = zip(*regions, strict=True)
    coords = {
        "anchor": np.array(anchor),
        "upstream": np.array(upstream),
        "downstream": np.array(downstream),
    }
    ids = np.array([f"g{i}" for i in range(len(codes))])
    source = ArraySource(codes, kind="codes", coords=coords)
    rows = np.arange(len(codes), dtype=np.int64)
    y = np.linspace(0, 1, len(codes))[:, None]
    return FeatureBatch({"onehot": Block(source, rows)}, ids, ids, ids, targets=y)


def blank(regions: list[tuple[str, int, int]], genes: int = 1) -> np.ndarray:
    longest = max(up + down for _, up, down in regions)
    return np.full((genes, len(regions), longest), A, np.uint8)


def marked(regions: list[tuple[str, int, int]], marks: dict[tuple[int, int], int]) -> FeatureBatch:
    """All A, but for a base at (region, bp from its anchor)."""
    codes = blank(regions)
    for (region, offset), base in marks.items():
        codes[0, region, regions[region][1] + offset] = base
    return store_like(regions, codes)


def read(batch: FeatureBatch) -> dict[str, torch.Tensor]:
    return {"onehot": torch.from_numpy(batch.blocks["onehot"].read())}


@pytest.mark.parametrize("regions", [EMPRES, DEMO])
def test_deepcre_reads_its_3020_positions_of_either_end(
    regions: list[tuple[str, int, int]],
) -> None:
    # At −1000 and +499 of the TSS, −500 and +999 of the TTS lie the ends of the two windows.
    marks = {(0, -1000): C, (0, 499): G, (1, -500): T, (1, 999): C}
    just_outside = {(0, -1001): G, (1, 1000): G}
    if regions is EMPRES:
        just_outside |= {(0, 500): C, (1, -501): C}
    batch = marked(regions, marks | just_outside)
    network = DeepCRE(preset="paper").build(layout_of(batch), 1)
    assert network.length == 3020
    seen = network.read(read(batch))[0].T
    assert seen.shape == (3020, 4)
    expected = torch.zeros(3020, 4)
    expected[:, A] = 1
    expected[1500:1520] = 0
    for position, base in {0: C, 1499: G, 1520: T, 3019: C}.items():
        expected[position] = torch.eye(4)[base]
    expected[1000:1003] = 0  # the first three bases of the gene
    expected[2017:2020] = 0  # and its last
    assert torch.equal(seen, expected)


def test_phytoexpr_reads_promoter_then_terminator_and_crops_both_outer_ends() -> None:
    layout = layout_of(marked(EMPRES, {}))
    whole = cut(layout, phytoexpr_windows(4000), learner="x", published=True)
    assert [(p.region, p.start, p.stop) for p in whole] == [(0, 0, 5000), (1, 0, 5000)]
    inner = cut(layout, phytoexpr_windows(2000), learner="x", published=True)
    assert [(p.region, p.start, p.stop) for p in inner] == [(0, 2000, 5000), (1, 0, 3000)]


def test_order_of_regions_in_the_store_does_not_matter() -> None:
    turned = [EMPRES[1], EMPRES[0]]
    batch = marked(turned, {(1, -1000): C, (0, 999): G})
    seen = DeepCRE(preset="paper").build(layout_of(batch), 1).read(read(batch))[0]
    assert seen[C, 0] == 1
    assert seen[G, 3019] == 1


def test_what_is_not_stored_is_refused_or_filled_up_with_n() -> None:
    short = [("tss", 200, 50), ("tts", 170, 0)]
    batch = marked(short, {(0, -200): C, (1, -1): G})
    with pytest.raises(
        InputError, match=r"−1,000 … \+500 at the TSS.*store has −200 … \+50 at the TSS"
    ):
        DeepCRE(preset="paper").build(layout_of(batch), 1)
    network = DeepCRE(preset="paper", allow_short=True).build(layout_of(batch), 1)
    seen = network.read(read(batch))[0]
    assert network.length == 3020
    assert seen[:, :800].abs().sum() == 0  # N reads zeros in deepCRE
    assert seen[C, 800] == 1
    assert seen[:, 1050:1520].abs().sum() == 0
    assert seen[:, 2017:].abs().sum() == 0  # the marker at −1 is one of the three hidden bases
    assert seen[A, 1520 + 500 - 170] == 1


def test_a_window_of_which_nothing_is_stored() -> None:
    batch = marked([("tts", 170, 0)], {(0, -170): T})
    layout = layout_of(batch)
    network = DeepCRE(preset="paper", allow_short=True).build(layout, 1)
    seen = network.read(read(batch))[0]
    assert seen.shape == (4, 3020)
    assert seen[:, :1520].abs().sum() == 0
    assert seen[T, 1520 + 330] == 1
    small = DeepCRE().build(layout, 1)
    assert small.length == 170
    assert small.read(read(batch))[0][T, 0] == 1
    with pytest.raises(InputError, match="use another learner"):
        cut(layout, [Window("tss", 100, 100)], learner="x", published=False)


def test_small_takes_what_there_is_of_its_windows() -> None:
    batch = marked([("tss", 1200, 100), ("tts", 50, 2000)], {})
    pieces = cut(layout_of(batch), WINDOWS, learner="x", published=False)
    assert [(p.region, p.start, p.stop) for p in pieces] == [(0, 200, 1300), (1, 0, 1050)]
    assert [p.window for p in pieces] == [Window("tss", 1000, 100), Window("tts", 50, 1000)]


def test_arrays_that_do_not_say_where_they_lie() -> None:
    def layout(*length: int) -> dict[str, object]:
        return {"c": {"kind": "codes", "shape": [len(length), length[0]]}}

    assert cut(layout(1500, 1500), WINDOWS, learner="x", published=True)
    with pytest.raises(InputError, match="do not say where their regions lie"):
        cut(layout(5000, 5000), WINDOWS, learner="x", published=True)
    assert [p.length for p in cut(layout(90, 90, 90), WINDOWS, learner="x", published=False)] == [
        90
    ] * 3


def test_codes_are_fractional_one_hot_within_the_network() -> None:
    batch = marked([("tss", 15, 0)], {(0, i - 15): i for i in range(15)})
    pieces = cut(layout_of(batch), [Window("tss", 15, 0)], learner="x", published=True)
    (seen,) = Bases(pieces)(read(batch))
    sums = dict(zip("ACGTNRYSWKMBDHV", seen[0].T.tolist(), strict=True))
    assert sums["A"] == [1, 0, 0, 0]
    assert sums["R"] == [0.5, 0, 0.5, 0]
    assert sums["N"] == [0.25] * 4
    assert sums["B"] == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])
    (seen,) = Bases(pieces, unknown_is_zero=True)(read(batch))
    assert seen[0, :, N].tolist() == [0] * 4


def test_a_learner_refuses_a_store_with_other_windows(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 4, (40, 2, 60)).astype(np.uint8)
    here, there = ([("tss", up, 60 - up), ("tts", 30, 30)] for up in (30, 40))
    batch = store_like(here, codes)
    learner = DeepCRE(epochs=1)
    learner.fit(batch, batch, seed=0, budget=Budget(threads=1))
    learner.save(tmp_path)
    loaded = DeepCRE.load(tmp_path)
    assert np.array_equal(loaded.predict(batch), learner.predict(batch))
    with pytest.raises(InputError, match=r"−30 … \+30 at the TSS.*−40 … \+20 at the TSS"):
        loaded.predict(store_like(there, codes))
    # An array in memory says nothing, and is taken for what the learner knows.
    check_layout(layout_of(batch), store_like(here, codes))
    unsaid = FeatureBatch(
        {"onehot": Block(ArraySource(codes, kind="codes"), np.arange(40, dtype=np.int64))},
        batch.gene, batch.species, batch.family,
    )  # fmt: skip
    assert np.array_equal(loaded.predict(unsaid), learner.predict(batch))


def test_a_store_says_where_its_regions_lie(tmp_path: Path, shared_data: Path) -> None:
    import featurestore
    from featurestore.build.engine import build

    dataset = tmp_path / "dataset.toml"
    data = shared_data / "ath_windows"
    dataset.write_text(
        'embedders = ["onehot"]\n[species.ath]\n'
        f'genome = "{data}/genome.fa.gz"\nannotation = "{data}/genes.gff3.gz"\n'
        f'expression = "{data}/tpm_leaf.tsv.gz"\n'
    )
    store = tmp_path / "store.zarr"
    build(dataset, store)
    source = featurestore.open(store).feature_source("ath", "onehot")
    ids = np.array(["a", "b"])
    batch = FeatureBatch({"onehot": Block(source, np.array([3, 700]))}, ids, ids, ids)
    layout = layout_of(batch)
    assert layout["onehot"]["windows"] == [
        {"anchor": "tss", "upstream": 4000, "downstream": 1000},
        {"anchor": "tts", "upstream": 1000, "downstream": 4000},
    ]
    codes = batch.blocks["onehot"].read()
    seen = DeepCRE(preset="paper").build(layout, 1).read({"onehot": torch.from_numpy(codes)})
    expected = np.concatenate([codes[:, 0, 3000:4500], codes[:, 1, 500:2000]], axis=1)
    keep = np.setdiff1d(
        np.arange(3020), [*range(1000, 1003), *range(1500, 1520), *range(2017, 2020)]
    )
    plain = np.setdiff1d(np.arange(3000), [*range(1000, 1003), *range(1997, 2000)])
    known = (expected[:, plain] < 4).all(axis=0)
    assert np.array_equal(
        seen.argmax(dim=1)[:, keep].numpy()[:, known], expected[:, plain][:, known]
    )
