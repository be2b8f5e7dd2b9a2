"""Names to files as servers list them, and the command, against a local server that answers as they do."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from featurestore.cli import cli
from featurestore.errors import FetchError, InputError, UnknownNameError
from featurestore.fetch.checksums import Checksum, rotating_sum
from featurestore.fetch.run import FetchOptions, fetch, listings
from featurestore.fetch.sources import list_files, sources
from tests.builders.download_server import Served
from tests.builders.hub_server import hub_server

FASTA, GFF = b">1\nACGT\n" * 300, b"##gff-version 3\n" * 100
ENSEMBL = "/pub/plants/release-{}/{}/arabidopsis_thaliana/"


def line(name: str, data: bytes) -> str:
    return f"{rotating_sum(iter([data])):05d} {-(-len(data) // 1024):5d} {name}\n"


def ensembl(server, release=60, genes=GFF):
    dna = ENSEMBL.format(release, "fasta") + "dna/"
    gff = ENSEMBL.format(release, "gff3")
    stem = "Arabidopsis_thaliana.TAIR10"
    names = {
        dna: {f"{stem}.dna.toplevel.fa.gz": FASTA, f"{stem}.dna_sm.toplevel.fa.gz": b"sm",
              f"{stem}.dna_rm.toplevel.fa.gz": b"rm", f"{stem}.dna.chromosome.1.fa.gz": b"1"},
        gff: {f"{stem}.{release}.gff3.gz": genes, f"{stem}.{release}.chr.gff3.gz": b"chr",
              f"{stem}.{release}.abinitio.gff3.gz": b"abinitio",
              f"{stem}.{release}.chromosome.1.gff3.gz": b"1"},
    }  # fmt: skip
    for folder, files in names.items():
        text = "".join(line(name, data) for name, data in files.items())
        server.files[folder + "CHECKSUMS"] = Served(text.encode())
        for name, data in files.items():
            server.files[folder + name] = Served(data)


def zenodo(server, record, files, **changes):
    entries = [
        {"key": name, "size": len(data), "links": {"self": "http://evil.example/x"},
         "checksum": "md5:" + hashlib.md5(data, usedforsecurity=False).hexdigest(), **changes}
        for name, data in files.items()
    ]  # fmt: skip
    server.files[f"/api/records/{record}"] = Served(json.dumps({"files": entries}).encode())
    for name, data in files.items():
        server.files[f"/api/records/{record}/files/{name}/content"] = Served(data)


def run(server, *arguments):
    return CliRunner().invoke(
        cli, ["fetch", *arguments, "--base-url", server.url, "--allow-http", "--timeout", "5"]
    )


def test_ensembl_takes_the_toplevel_genome_and_all_genes(web, server):
    ensembl(server, 59)
    found = list_files(web, "ensembl-plants:arabidopsis_thaliana", release=59)
    assert {f.name: f.url for f in found.files} == {
        "Arabidopsis_thaliana.TAIR10.dna.toplevel.fa.gz": "https://ftp.ensemblgenomes.ebi.ac.uk"
        "/pub/plants/release-59/fasta/arabidopsis_thaliana/dna/"
        "Arabidopsis_thaliana.TAIR10.dna.toplevel.fa.gz",
        "Arabidopsis_thaliana.TAIR10.59.gff3.gz": "https://ftp.ensemblgenomes.ebi.ac.uk"
        "/pub/plants/release-59/gff3/arabidopsis_thaliana/Arabidopsis_thaliana.TAIR10.59.gff3.gz",
    }


def test_a_species_from_name_to_the_lines_of_dataset_toml(server, tmp_path):
    ensembl(server)
    told = run(server, "ensembl-plants:arabidopsis_thaliana", "--out", str(tmp_path))
    assert told.exit_code == 0, told.output
    text = told.output.split("# for dataset.toml, paths from this folder:\n")[1]
    species = tomllib.loads(text)["species"]["arabidopsis_thaliana"]
    assert Path(species["genome"]).read_bytes() == FASTA
    assert Path(species["annotation"]).read_bytes() == GFF
    assert "doi 10.1093/nar/gkab1007" in text


def test_a_changed_file_of_the_same_size_is_found_by_the_bsd_sum(server, tmp_path):
    ensembl(server)
    path = ENSEMBL.format(60, "gff3") + "Arabidopsis_thaliana.TAIR10.60.gff3.gz"
    server.files[path].content = b"x" + GFF[1:]
    told = run(server, "ensembl-plants:arabidopsis_thaliana", "--out", str(tmp_path))
    assert told.exit_code == 1
    assert "where sum" in told.output
    # The genome is there all the same, and no lines are given that name what is not.
    assert len(list(tmp_path.rglob("*.fa.gz"))) == 1
    assert "[species" not in told.output


@pytest.mark.parametrize(
    "text", ["ensembl-plants", "ensembl-plants:../../etc", "ensembl-plants:Zea mays"]
)
def test_species_are_names_of_folders_and_nothing_else(web, server, text):
    with pytest.raises(InputError, match="arabidopsis_thaliana"):
        list_files(web, text)
    assert server.asked == []


def test_an_unknown_species_names_the_address(web, server):
    with pytest.raises(FetchError, match=r"oryza_nova.*404"):
        list_files(web, "ensembl-plants:oryza_nova")


def test_unknown_names_are_told_with_the_nearest(web):
    with pytest.raises(UnknownNameError, match="Did you mean 'phytoexpr'"):
        list_files(web, "phytoexp")
    with pytest.raises(UnknownNameError, match="Did you mean 'methylation'"):
        list_files(web, "a2z:methylaton")
    with pytest.raises(InputError, match="--release"):
        list_files(web, "phytoexpr", release=3)


def test_empres_lists_the_record_and_only_chooses(web, server):
    zenodo(server, 18236856, {"tss_OHE.npy": b"1", "tts_OHE.npy": b"22", "gene.npy": b"333"})
    found = list_files(web, "empres", only=["t?s_*", "nothing"])
    assert [(f.name, f.size) for f in found.files] == [("tss_OHE.npy", 1), ("tts_OHE.npy", 2)]
    # Addresses are ours, whatever the list says.
    assert all(
        f.url == f"https://zenodo.org/api/records/18236856/files/{f.name}/content"
        for f in found.files
    )
    with pytest.raises(InputError, match=r"there are tss_OHE\.npy"):
        list_files(web, "empres", only=["x*"])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"key": "../../.bashrc"}, "no plain name"),
        ({"key": "a/b"}, "no plain name"),
        ({"key": None}, "has no name"),
        ({"size": -1}, "size"),
        ({"size": "big"}, "size"),
    ],
)
def test_lists_that_no_server_should_send(web, server, changes, why):
    zenodo(server, 18236856, {"x.npy": b"1"}, **changes)
    with pytest.raises(FetchError, match=why):
        list_files(web, "empres")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"files": []}', b"[" * 100_000])
def test_answers_that_are_no_list(web, server, body):
    server.files["/api/records/18236856"] = Served(body)
    with pytest.raises(FetchError, match="records/18236856"):
        list_files(web, "empres")


def test_the_weights_of_a2z_are_pinned(web, server):
    """The MD5 sums of the field page and of Kipoi, whatever the record says now."""
    names = {
        "accessibility": "model-accessibility-full.h5",
        "methylation": "model-methylation-full.h5",
    }
    zenodo(server, 5724562, dict.fromkeys(names.values(), b"not the weights"))
    with pytest.raises(FetchError, match="ad8a23d4d3a85e828ad6b1c53351fb8b was published"):
        list_files(web, "a2z")
    zenodo(server, 5724562, dict.fromkeys(names.values(), b"x"), checksum="")
    found = list_files(web, "a2z:methylation")
    assert [(f.name, f.checksum) for f in found.files] == [
        (names["methylation"], Checksum("md5", "c09ae8aeeadda60a1b9dba6fda3262ad"))
    ]
    from featurestore.embedders.a2z.published import PUBLISHED

    pinned = sources()["a2z"].facts["parts"]
    assert {(m, p.file, p.md5) for m, p in PUBLISHED.items()} == {
        (m, p["file"], p["md5"]) for m, p in pinned.items()
    }


def test_weights_that_are_not_those_published_get_no_name(server, tmp_path):
    zenodo(server, 5724562, {"model-accessibility-full.h5": b"x"}, checksum="")
    told = run(server, "a2z:accessibility", "--out", str(tmp_path))
    assert told.exit_code == 1
    assert not list(tmp_path.rglob("*.h5"))


def test_phytoexpr_by_the_figshare_api(server, tmp_path):
    data = b"gene,species\n"
    entry = {"id": 42825613, "name": "data.csv", "size": len(data), "is_link_only": False,
             "download_url": "https://evil.example/1", "supplied_md5": "",
             "computed_md5": hashlib.md5(data, usedforsecurity=False).hexdigest()}  # fmt: skip
    listed = json.dumps([{"id": 1, "name": "other", "size": 1}, entry]).encode()
    server.files["/v2/articles/24417076/files?page_size=500"] = Served(listed)
    server.files["/files/42825613"] = Served(location="/signed/1")
    server.files["/signed/1"] = Served(data, cut=[3])
    told = run(server, "phytoexpr", "--out", str(tmp_path), "--json")
    assert told.exit_code == 0, told.output
    facts = json.loads(told.stdout)
    assert facts["files"][0]["state"] == "fetched"
    assert (tmp_path / "phytoexpr" / "data.csv").read_bytes() == data
    assert any("fs import phytoexpr" in row for row in facts["dataset"])


def test_a_dry_run_fetches_nothing(server, tmp_path):
    zenodo(server, 18236856, {"a.npy": b"x" * 2_000_000})
    told = run(server, "empres", "--dry-run", "--out", str(tmp_path / "no"))
    assert told.exit_code == 0
    assert "2.0 MB  empres/a.npy  md5 " in told.output
    assert not (tmp_path / "no").exists()
    assert len(server.asked) == 1


def test_more_than_the_disk_holds_is_refused_before_the_first_byte(server, tmp_path):
    zenodo(server, 18236856, {"a.npy": b"x"}, size=1 << 49)
    told = run(server, "empres", "--out", str(tmp_path / "no"))
    assert told.exit_code == 1
    assert "GB are free" in told.output
    assert len(server.asked) == 1


def test_the_mirror_may_stand_in_the_environment(server, tmp_path):
    zenodo(server, 18236856, {"a.npy": b"x"})
    command = [
        sys.executable,
        "-m",
        "featurestore",
        "fetch",
        "empres",
        "--allow-http",
        "--out",
        "o",
    ]
    environment = os.environ | {"MERISTEM_FETCH_BASE_URL": server.url, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert (tmp_path / "o" / "empres" / "a.npy").read_bytes() == b"x"
    assert "# next: fs import empres" in done.stdout


def test_the_list_tells_licence_citation_and_check():
    told = CliRunner().invoke(cli, ["fetch", "--list", "--json"])
    rows = {row["name"]: row for row in json.loads(told.stdout)}
    assert set(rows) == {"ensembl-plants", "phytoexpr", "empres", "a2z", "plantcaduceus"}
    assert all(row["licence"] and row["citation"] and row["checksums"] for row in rows.values())
    assert "CC-BY" in rows["phytoexpr"]["licence"]
    assert CliRunner().invoke(cli, ["fetch"]).exit_code == 2


def test_a_checkpoint_comes_by_the_hubs_own_client(tmp_path):
    pytest.importorskip("huggingface_hub")
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "modeling_caduceus.py").write_text("raise SystemExit('code of a stranger')")
    with hub_server(**{"kuleshov-group__PlantCaduceus_l20": folder}) as hub:
        environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-m", "featurestore", "fetch", "plantcaduceus:l20", "--out", "o"],
            env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    here = tmp_path / "o" / "PlantCaduceus_l20"
    assert (here / "model.safetensors").read_bytes() == b"weights"
    assert not list(here.rglob("*.py"))
    lines = done.stdout.split("paths from this folder:\n")[1]
    table = tomllib.loads(lines)["embedders"]["plantcaduceus"]
    assert table == {"type": "plantcaduceus", "checkpoint": "o/PlantCaduceus_l20"}


def test_several_files_at_once_all_arrive(web, server, tmp_path):
    files = {f"f{i}.npy": bytes([i]) * (50_000 + i) for i in range(8)}
    zenodo(server, 18236856, files)
    for i in range(8):
        server.files[f"/api/records/18236856/files/f{i}.npy/content"].cut = [1000 * i]
    options = FetchOptions(tmp_path, jobs=4)
    outcome = fetch(web, listings(web, ["empres", "empres"], options), options)
    assert [f.state for f in outcome.files] == ["fetched"] * 8
    assert {p.name: p.read_bytes() for p in (tmp_path / "empres").iterdir()} == files


def test_the_help_tells_the_release_of_the_registry():
    told = CliRunner().invoke(cli, ["fetch", "--help"]).output
    assert f"[default: {sources()['ensembl-plants'].facts['release']}]" in told


def test_an_interrupted_command_ends_and_keeps_what_came(server, tmp_path):
    """Ctrl-C while one file comes piece by piece and another waits for its turn."""
    zenodo(server, 18236856, {"a.npy": b"a" * 400_000, "b.npy": b"b"})
    server.files["/api/records/18236856/files/a.npy/content"].trickle = 0.05
    command = [
        sys.executable, "-m", "featurestore", "fetch", "empres", "--allow-http", "--out", "o",
        "--jobs", "1", "--base-url", server.url,
    ]  # fmt: skip
    environment = os.environ | {"NO_PROXY": "127.0.0.1"}
    with subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as running:
        part = tmp_path / "o" / "empres" / ".a.npy.part"
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 1
    assert 0 < part.stat().st_size < 400_000
    assert not list((tmp_path / "o").rglob("*b.npy*"))
