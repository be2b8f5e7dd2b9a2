"""EMPRES's arrays to a store: every number where its gene, region, bin and channel are."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

import featurestore
from featurestore.build.engine import build
from featurestore.build.shards.recompute import verify_values
from featurestore.cli import cli
from featurestore.errors import InputError
from featurestore.inputs.deposits.empres import import_empres, letters
from featurestore.sequence import iupac
from featurestore.store.verify import verify
from tests.builders.deposits import genes, one_hot, write_arrays, write_data_csv

ROWS = genes(24)
NAMES = {"Ath": "arabidopsis_thaliana", "Bdi": "brachypodium_distachyon", "Zma": "zea_mays"}
SMALL = (6, 5)


@pytest.fixture
def deposit(tmp_path):
    return tmp_path / "deposit", write_arrays(tmp_path / "deposit", ROWS, channels=SMALL)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The whole way of the command, channels of the published numbers."""
    folder = tmp_path_factory.mktemp("empres")
    arrays = write_arrays(folder / "deposit", ROWS)
    write_data_csv(folder / "data.csv", list(reversed(ROWS)))
    told = CliRunner().invoke(
        cli, ["import", "empres", str(folder / "deposit"), "--store", str(folder / "s.zarr"),
              "--table", str(folder / "data.csv")],
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    return folder, arrays, told.output


def test_every_number_stands_where_it_belongs(imported):
    folder, arrays, _ = imported
    store = featurestore.open(folder / "s.zarr")
    assert sorted(store.species) == sorted(NAMES.values())
    row = {gene: i for i, gene in enumerate(arrays["gene"].tolist())}
    for species in store.species:
        names = store.genes(species).gene
        at = [row[gene] for gene in names]
        for feature, stem, shape in (
            ("plantcaduceus", "embeddings_PlantCad", (8, 2, 20, 384)),
            ("a2z.embedding", "embeddings_a2z", (8, 2, 20, 925)),
            ("a2z.accessibility", "predictions_a2z", (8, 2, 20)),
        ):
            group, _, array = feature.partition(".")
            values = store.features(species, feature)
            assert values.shape == shape
            assert values.dtype == np.float16
            for region, side in enumerate(("tss", "tts")):
                wanted = arrays[f"{side}_{stem}"][at].transpose(0, 2, 1).astype(np.float16)
                assert np.array_equal(values[:, region], wanted.reshape(values[:, region].shape))
            assert store[species][group][array or "embedding"].dims[:3] == ("gene", "region", "bin")


def test_ids_families_folds_sequences_and_tpm(imported):
    folder, _, _ = imported
    store = featurestore.open(folder / "s.zarr")
    by_gene = {r.gene: r for r in ROWS}
    for species in store.species:
        table = store.genes(species)
        assert {NAMES[by_gene[g].species] for g in table.gene} == {species}
        assert table.family.tolist() == [by_gene[g].family for g in table.gene]
        assert table.fold.tolist() == [by_gene[g].group for g in table.gene]
        tpm = np.array([float(by_gene[g].tpm) for g in table.gene], np.float32)
        assert np.allclose(store.expression(species).value[:, 0], tpm)
        code = store[species]["sequence"]["code"].values
        for i, gene in enumerate(table.gene):
            assert iupac.decode(code[i, 0]) == by_gene[gene].promoter[1000:6000]
            assert iupac.decode(code[i, 1]) == by_gene[gene].terminator[4000:9000]
        starts = store[species]["plantcaduceus"]["bin_start"].values
        assert starts[:, 0].tolist() == [-4000, -1000]


def test_what_is_not_known_is_said_in_the_store(imported):
    folder, _, output = imported
    store = featurestore.open(folder / "s.zarr")
    attrs = store.embedder_attrs("zea_mays", "plantcaduceus")
    assert attrs["type"] == "arrays"
    assert "not known" in attrs["checkpoint"]
    assert "not known" in attrs["rc_rule"]
    assert "Zenodo 18236856" in attrs["parameters"]["source"]
    assert "Arabidopsis thaliana" in attrs["pretraining_species"]
    assert not store["zea_mays"]["plantcaduceus"]["input_digest"].values.any()
    assert "mirrored" in output
    text = "".join(p.read_text() for p in (folder / "s.zarr").rglob("zarr.json"))
    assert str(folder) not in text


def test_verify_passes_and_finds_a_flipped_bit(imported, tmp_path):
    folder, _, _ = imported
    assert verify(folder / "s.zarr").intact
    told = verify_values(folder / "s.zarr", 1.0)
    assert told.intact
    assert any("plantcaduceus" in note and "not computed here" in note for note in told.notes)
    shard = next(
        (folder / "s.zarr" / "zea_mays" / "plantcaduceus" / "embedding").rglob("c/0/*/*/*")
    )
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    try:
        shard.write_bytes(bytes(data))
        assert not verify(folder / "s.zarr").intact
    finally:
        data[1000] ^= 1
        shard.write_bytes(bytes(data))


def test_a_build_that_is_there_is_up_to_date_and_a_changed_array_is_read_again(deposit, tmp_path):
    folder, arrays = deposit
    made = import_empres(folder, tmp_path / "out")
    first = build(made.dataset, tmp_path / "s.zarr")
    assert build(made.dataset, tmp_path / "s.zarr").up_to_date
    arrays["tts_embeddings_PlantCad"][3, 2, 1] = 99
    np.save(folder / "tts_embeddings_PlantCad.npy", arrays["tts_embeddings_PlantCad"])
    again = build(made.dataset, tmp_path / "s.zarr")
    assert not again.up_to_date
    assert again.computed < first.computed  # the groups that did not change are taken over
    store = featurestore.open(tmp_path / "s.zarr")
    at = store.genes("empres").gene.tolist().index(ROWS[3].gene)
    assert store.features("empres", "plantcaduceus")[at, 1, 1, 2] == 99


def test_the_store_takes_further_embedders(deposit, tmp_path):
    folder, _ = deposit
    made = import_empres(folder, tmp_path / "out")
    build(made.dataset, tmp_path / "s.zarr", embedders=["plantcaduceus"])
    build(made.dataset, tmp_path / "s.zarr", embedders=["kmer"])
    assert set(featurestore.open(tmp_path / "s.zarr").embedders("empres")) == {
        "onehot", "kmer", "plantcaduceus"
    }  # fmt: skip


def test_without_the_table_all_genes_stand_under_one_name_and_it_is_said(deposit, tmp_path):
    folder, _ = deposit
    made = import_empres(folder, tmp_path / "out")
    assert made.genes == {"empres": 24}
    assert any("No array tells the species" in note for note in made.notes)


def test_a_species_array_is_used_where_there_is_one(deposit, tmp_path):
    folder, _ = deposit
    np.save(folder / "species.npy", np.array([r.species for r in ROWS]))
    assert import_empres(folder, tmp_path / "out").genes == dict.fromkeys(NAMES.values(), 8)


def test_sequences_come_from_the_table_where_there_is_no_one_hot(deposit, tmp_path):
    folder, _ = deposit
    for side in ("tss", "tts"):
        (folder / f"{side}_OHE.npy").unlink()
    with pytest.raises(InputError, match="--table"):
        import_empres(folder, tmp_path / "no")
    write_data_csv(tmp_path / "data.csv", ROWS)
    made = import_empres(folder, tmp_path / "out", table=tmp_path / "data.csv")
    assert made.genes == dict.fromkeys(NAMES.values(), 8)


def test_mirrored_windows_do_not_pass(deposit, tmp_path):
    """What EMPRES's first version did: −1,000 … +4,000 of the TSS."""
    folder, _ = deposit
    np.save(folder / "tss_OHE.npy", one_hot([r.promoter[4000:9000] for r in ROWS]))
    write_data_csv(tmp_path / "data.csv", ROWS)
    with pytest.raises(InputError, match="mirrored"):
        import_empres(folder, tmp_path / "out", table=tmp_path / "data.csv")
    assert not (tmp_path / "out" / "dataset.toml").exists()


@pytest.mark.parametrize("name", ["gene", "family", "tss_embeddings_PlantCad"])
def test_arrays_of_objects_are_refused_and_nothing_runs(deposit, tmp_path, name):
    folder, arrays = deposit
    flag = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return exec, (f"open({str(flag)!r}, 'w')",)

    values = np.empty(arrays[name].shape, object)
    values.flat[:] = arrays[name].flat[:]
    values.flat[0] = Trap()
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "|O", "fortran_order": False, "shape": values.shape}
    )
    (folder / f"{name}.npy").write_bytes(stream.getvalue() + pickle.dumps(values))
    with pytest.raises(InputError, match=r"allow_pickle=True\)\.astype\(str\)"):
        import_empres(folder, tmp_path / "out")
    assert not flag.exists()


def test_what_the_message_says_mends_it(deposit, tmp_path):
    folder, arrays = deposit
    np.save(folder / "gene.npy", arrays["gene"].astype(object), allow_pickle=True)
    with pytest.raises(InputError) as told:
        import_empres(folder, tmp_path / "out")
    code = str(told.value).split('python -c "')[1].rstrip('"')
    subprocess.run([sys.executable, "-c", code], check=True)
    assert import_empres(folder, tmp_path / "out").genes == {"empres": 24}


def spoil(name, change):
    def act(folder, arrays):
        np.save(folder / f"{name}.npy", change(arrays[name]))

    return act


def zipped(folder, arrays):
    with zipfile.ZipFile(folder / "gene.npy", "w") as file:
        file.writestr("x", "y")


def cut(folder, arrays):
    data = (folder / "tss_OHE.npy").read_bytes()
    (folder / "tss_OHE.npy").write_bytes(data[:-1000])


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (spoil("TPM", lambda a: a[:-1]), "differ in length"),
        (spoil("TPM", np.log10), "look like logarithms"),
        (spoil("tss_OHE", lambda a: a.transpose(0, 2, 1)), "expected"),
        (spoil("tss_OHE", lambda a: a * 2), "a value of 2"),
        (spoil("tss_embeddings_PlantCad", lambda a: a[:-1]), "channels, bins"),
        (spoil("gene", lambda a: np.where(a == a[1], a[0], a)), "several rows"),
        (lambda f, a: (f / "tts_embeddings_a2z.npy").unlink(), "without its other side"),
        (lambda f, a: (f / "family.npy").unlink(), "No such file"),
        (zipped, r"no \.npy file"),
        (cut, "no whole"),
    ],
    ids=["length", "log", "layout", "counts", "rows", "twice", "side", "missing", "zip", "cut"],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(deposit, tmp_path, act, why):
    folder, arrays = deposit
    act(folder, arrays)
    with pytest.raises(InputError, match=why):
        import_empres(folder, tmp_path / "out")
    assert not (tmp_path / "out" / "dataset.toml").exists()


def test_values_that_float16_cannot_hold_fail_by_region(deposit, tmp_path):
    folder, arrays = deposit
    arrays["tss_embeddings_PlantCad"][5, 0, 7] = 1e6
    arrays["tts_embeddings_PlantCad"][6, 1, 3] = np.nan
    for side in ("tss", "tts"):
        np.save(folder / f"{side}_embeddings_PlantCad.npy", arrays[f"{side}_embeddings_PlantCad"])
    result = build(import_empres(folder, tmp_path / "out").dataset, tmp_path / "s.zarr")
    assert any("2 genes" in line or "1 genes" in line for line in result.failures)
    store = featurestore.open(tmp_path / "s.zarr")
    names = store.genes("empres").gene.tolist()
    status = store["empres"]["plantcaduceus"]["status"].values
    wanted = np.zeros((24, 2), int)
    wanted[names.index(ROWS[5].gene), 0] = wanted[names.index(ROWS[6].gene), 1] = 3
    assert status.tolist() == wanted.tolist()
    assert np.isnan(store.features("empres", "plantcaduceus")[names.index(ROWS[5].gene), 0]).all()


def test_logarithms_may_be_declared(deposit, tmp_path):
    folder, arrays = deposit
    np.save(folder / "TPM.npy", np.log10(1 + arrays["TPM"]))
    made = import_empres(folder, tmp_path / "out", unit="log10(1+TPM)")
    build(made.dataset, tmp_path / "s.zarr", embedders=["kmer"])
    view = featurestore.open(tmp_path / "s.zarr").expression("empres")
    assert view.unit == "log10(1+TPM)"
    assert view.labelled.all()


def test_other_bins_than_the_arrays_have_are_refused(deposit, tmp_path):
    folder, _ = deposit
    made = import_empres(folder, tmp_path / "out")
    text = made.dataset.read_text().replace("bin = 250", "bin = 500")
    made.dataset.write_text(text)
    from featurestore.errors import IncompleteStoreError

    with pytest.raises(IncompleteStoreError, match="20 bins, and"):
        build(made.dataset, tmp_path / "s.zarr")


def test_fs_plan_tells_of_rows_that_are_read(deposit, tmp_path):
    folder, _ = deposit
    made = import_empres(folder, tmp_path / "out")
    told = CliRunner().invoke(cli, ["plan", str(made.dataset), "--json"])
    assert told.exit_code == 0, told.output
    groups = {row["group"]: row for row in json.loads(told.stdout)["groups"]}
    assert groups["plantcaduceus"]["seconds"] == 0


@pytest.mark.parametrize("code", range(16))
def test_letters_of_every_set_of_bases(code):
    """Held against the project's own table of IUPAC codes, which has tests of its own."""
    column = np.array([[(code >> i) & 1 for i in range(4)]], np.uint8)[:, :, None]
    letter = letters(column)[0]
    told = iupac.ONE_HOT[iupac.encode(letter.encode())][0] > 0
    assert told.tolist() == ([True] * 4 if code == 0 else column[0, :, 0].astype(bool).tolist())
