"""The feature ``genome``: windows against the letters of a FASTA file, genes without one, defaults."""

from __future__ import annotations

import json
import sys
from io import StringIO

import numpy as np
import pytest

from benchmarks.inputs.features import default_features, longest_window, parse, resolve
from benchmarks.inputs.genes import gene_frame
from benchmarks.inputs.own_features import own_features
from benchmarks.runs.files import read_run
from benchmarks.runs.plans import RunOptions
from benchmarks.runs.progress import Progress
from benchmarks.runs.runner import plan_runs, run
from benchmarks.scores.audit_runs import audit_runs
from featurestore.errors import InputError
from featurestore.sequence.iupac import decode
from learners.base import LearnerInfo
from learners.batch import Block, FeatureBatch
from learners.layout import layout_of
from tests.benchmarks.conftest import FAKES

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    import featurestore
    from featurestore.build.engine import build
    from featurestore.sample import write_sample

    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder / "data", genes=40)
    build(folder / "data" / "dataset.toml", folder / "store.zarr", embedders=["kmer"])
    return folder, featurestore.open(folder / "store.zarr")


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.syspath_prepend(str(FAKES))
    import track_fakes

    yield track_fakes
    sys.modules.pop("track_fakes")


def contigs_of(folder, species):
    (path,) = (folder / "data").glob(f"{species}*.fa*")
    text = path.read_text()
    found = {}
    for part in text.split(">")[1:]:
        head, _, body = part.partition("\n")
        found[head.split()[0]] = body.replace("\n", "").upper()
    return found


def test_windows_are_the_letters_around_the_tss(sample):
    folder, store = sample
    species = list(store.species)
    features = resolve(store, species, "genome:4096")
    genes = gene_frame(store, species)
    (source,) = features.sources.values()
    assert (source.kind, source.dims, source.shape) == ("long", ("position",), (4096,))
    assert source.coords["position"][[0, 2048, -1]].tolist() == [-2048, 0, 2047]
    assert features.usable.all()
    letters = {one: contigs_of(folder, one) for one in species}
    for row in range(0, len(genes), 3):
        gene = genes.iloc[row]
        whole = letters[gene["species"]][gene["contig"]]
        low, high = gene["tss"] - 2048, gene["tss"] + 2048
        wanted = "N" * max(-low, 0) + whole[max(low, 0) : high]
        wanted += "N" * (4096 - len(wanted))
        if gene["strand"] < 0:
            wanted = wanted.translate(COMPLEMENT)[::-1]
        assert decode(source.read(np.array([row]))[0]) == wanted


def test_expressions_name_one_length_in_one_way(sample):
    _, store = sample
    assert str(parse("genome")[0]) == "genome:196608"
    assert [str(t) for t in parse("kmer+genome:512")] == ["kmer", "genome:512"]
    assert longest_window("kmer+genome:512") == 512
    assert longest_window("kmer") == 0
    for wrong in ("genome:0", "genome:pooled", "genome:99999999999"):
        with pytest.raises(InputError, match="write genome:LENGTH"):
            parse(wrong)
    with pytest.raises(InputError, match="unknown reduction '196608'"):
        parse("kmer:196608")
    features = resolve(store, list(store.species), "genome:512+kmer")
    rows = np.arange(4)
    batch = FeatureBatch(
        {n: Block(s, rows) for n, s in features.sources.items()}, *[np.array(list("abcd"))] * 3
    )
    assert layout_of(batch)["genome:512"] == {"kind": "long", "shape": [512]}


def test_genes_without_a_window_say_why(sample, monkeypatch):
    from dataclasses import replace

    _, store = sample
    (species, *_) = store.species
    genes = store.genes(species)
    contig, tss, strand = genes.contig.astype(object), genes.tss.copy(), genes.strand.copy()
    contig[0], tss[1], strand[2], tss[3] = "", -1, 0, 10**9
    changed = replace(genes, contig=contig.astype(str), tss=tss, strand=strand)
    monkeypatch.setattr(type(store), "genes", lambda self, name: changed)
    features = resolve(store, [species], "genome:64")
    assert features.usable.tolist() == [False] * 4 + [True] * (len(tss) - 4)
    assert features.reason[0] == features.reason[1] == "genome: no contig or TSS"
    assert features.reason[2] == "genome: its strand is not known"
    assert "its TSS is not on the genome" in features.reason[3]
    (source,) = features.sources.values()
    assert (source.read(np.arange(4)) == 4).all()


def test_learners_of_long_windows_are_given_them(sample):
    _, store = sample
    species = list(store.species)

    class Long:
        info = LearnerInfo(name="long", inputs=frozenset({"long", "signal"}), summary="")

        @classmethod
        def wanted_features(cls, params):
            return f"genome:{params['window']}" if "window" in params else None

    assert default_features(store, species, Long.info) == "genome:196608"
    assert own_features(store, species, Long, {"window": 1024}) == "genome:1024"
    assert own_features(store, species, Long, {}) is None
    both = LearnerInfo(name="both", inputs=frozenset({"long", "bins"}), summary="")
    assert default_features(store, species, both) == "kmer"


def test_a_run_on_windows_says_which_and_is_audited_by_them(sample, fake, tmp_path):
    _, store = sample
    options = RunOptions(
        ["track_fakes:PromoterGc@genome:600"], out=tmp_path, bootstrap=0, only_folds=[0, 2]
    )
    (outcome,) = run(store, options, Progress(0, StringIO()))
    assert outcome.state == "ok", outcome.error
    found = read_run(outcome.path)
    assert found.identity["features"] == "genome:600"
    assert fake.PromoterGc.layout == {"genome:600": {"kind": "long", "shape": [600]}}
    assert sorted(found.predictions["fold"].unique()) == [0, 2]
    tested = plan_runs(store, options)[0].aligned.test_fold
    assert len(found.predictions) == int(np.isin(tested, [0, 2]).sum())
    few = audit_runs(store, [found])[0]
    wide = RunOptions(["track_fakes:PromoterGc@genome:60000"], out=tmp_path / "w", bootstrap=0)
    (outcome,) = run(store, wide, Progress(0, StringIO()))
    many = audit_runs(store, [read_run(outcome.path)])[0]
    assert any("windows of 60,000 bp" in note for note in many["notes"])
    assert many["reasons"]["overlap"]["genes"] > few["reasons"]["overlap"]["genes"]


def test_learners_without_long_windows_refuse_them(sample, tmp_path):
    _, store = sample
    with pytest.raises(InputError, match="ridge takes"):
        plan_runs(store, RunOptions(["ridge@genome:600"], out=tmp_path))


def test_lines_are_not_read_in_windows_of_the_genome(sample, fake, tmp_path):
    _, store = sample
    options = RunOptions(["track_fakes:PromoterGc@genome:600"], task="variants", out=tmp_path)
    with pytest.raises(InputError, match="windows of the genome know no lines"):
        plan_runs(store, options)


def test_other_weights_in_the_same_folder_are_another_run(sample, tmp_path):
    torch = pytest.importorskip("torch")
    from featurestore.embedders.enformer import Enformer, EnformerConfig

    _, store = sample
    weights = tmp_path / "weights"

    def plans(learner):
        params = [f"checkpoint={weights}"] if learner == "enformer" else []
        options = RunOptions([learner], out=tmp_path, params=params)
        (plan,) = plan_runs(store, options)
        return plan.name, plan.identity["learner"]["checkpoints"]

    member = json.dumps(
        [{"learner": "enformer", "params": {"checkpoint": str(weights)}}, {"learner": "ridge"}]
    )
    seen = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        Enformer(EnformerConfig.preset("tiny")).save_pretrained(weights)
        seen.append([plans("enformer"), plans(f"stack({member})")])
    first, second, again = seen
    assert again == first
    for one, other in zip(first, second, strict=True):
        assert one[0] != other[0]
        assert one[1] != other[1]
        assert len(one[1]) == 1
