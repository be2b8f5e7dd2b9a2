"""An exported store is a whole store: same values, verified, there as a whole or not at all."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner

import featurestore
from featurestore.build.engine import build
from featurestore.cli import cli
from featurestore.errors import DamagedStoreError, InputError, RemoteStoreError, UnknownNameError
from featurestore.export.profiles import largest_by_channel, round_to_bfloat16
from featurestore.export.publish import export_store
from featurestore.store.quantised import decode, decoded, encode, scale_of
from featurestore.store.verify import verify
from tests.builders.dataset import write_dataset
from tests.builders.remote import google_server
from tests.builders.species import random_species


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """Two species, two embedders."""
    folder = tmp_path_factory.mktemp("two")
    extra = '[embedders.short]\ntype = "kmer"\nk = [1]\n'
    dataset = write_dataset(
        folder / "in",
        random_species("oak", genes=20),
        random_species("elm", genes=17, seed=3),
        embedders='["onehot", "kmer", "short"]',
        extra=extra,
    )
    build(dataset, folder / "s.zarr")
    return folder / "s.zarr"


@pytest.fixture(scope="module")
def rounded(built, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("remote") / "out.zarr"
    export_store(featurestore.open(built), path, profile="remote")
    return path


@pytest.fixture(scope="module")
def coded(built, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "out.zarr"
    export_store(featurestore.open(built), path, profile="int8")
    return path


class TestFolder:
    def test_a_plain_export_is_the_store_itself(self, built, tmp_path):
        done = export_store(featurestore.open(built), tmp_path / "copy.zarr")
        assert done.digest == featurestore.open(built).digest
        assert files(tmp_path / "copy.zarr") == files(built)
        assert [p.name for p in tmp_path.iterdir()] == ["copy.zarr"], "nothing is left beside it"

    def test_what_is_damaged_is_not_exported(self, built, tmp_path):
        shutil.copytree(built, tmp_path / "s.zarr")
        victim = tmp_path / "s.zarr/plant/kmer/embedding/c/1/0/0/0"
        raw = bytearray(victim.read_bytes())
        raw[50] ^= 1
        victim.write_bytes(raw)
        for profile in (None, "remote"):
            with pytest.raises(DamagedStoreError, match="embedding/c/1"):
                export_store(
                    featurestore.open(tmp_path / "s.zarr"), tmp_path / "out.zarr", profile=profile
                )
            assert not (tmp_path / "out.zarr").exists()

    def test_a_folder_that_is_there_is_left_alone(self, built, tmp_path):
        with pytest.raises(InputError, match="something already"):
            export_store(featurestore.open(built), tmp_path)

    def test_a_run_that_was_killed_goes_on_and_ends_in_the_same_bytes(self, built, tmp_path):
        export_store(featurestore.open(built), tmp_path / "whole.zarr", profile="remote")
        code = textwrap.dedent("""
            import os, signal, sys
            import featurestore
            from featurestore.export.publish import export_store
            def die(done, total):
                if done == int(sys.argv[3]):
                    os.kill(os.getpid(), signal.SIGKILL)
            export_store(featurestore.open(sys.argv[1]), sys.argv[2], profile="remote", on_file=die)
        """)
        out = tmp_path / "out.zarr"
        for after in (5, 30):
            words = [sys.executable, "-c", code, str(built), str(out), str(after)]
            assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
            assert not out.exists()
        done = export_store(featurestore.open(built), out, profile="remote")
        assert done.files - 1 - done.written >= 29
        assert files(out) == files(tmp_path / "whole.zarr")

    def test_what_an_earlier_run_left_is_read_before_it_is_believed(self, built, tmp_path):
        def stop(done: int, total: int) -> None:
            if done == 20:
                raise KeyboardInterrupt

        out = tmp_path / "out.zarr"
        with pytest.raises(KeyboardInterrupt):
            export_store(featurestore.open(built), out, on_file=stop)
        kept = sorted(p for p in (tmp_path / ".out.zarr.export/store").rglob("*") if p.is_file())
        kept[3].write_bytes(b"spoilt")
        export_store(featurestore.open(built), out)
        assert files(out) == files(built)


class TestChosen:
    def test_species_and_embedders_are_chosen_and_the_rest_is_as_it_was(self, two, tmp_path):
        done = export_store(
            featurestore.open(two), tmp_path / "out.zarr", species=["elm"], embedders=["short"]
        )
        store, whole = featurestore.open(tmp_path / "out.zarr"), featurestore.open(two)
        assert verify(tmp_path / "out.zarr").intact
        assert (store.species, store.embedders("elm")) == (["elm"], ["onehot", "short"])
        np.testing.assert_array_equal(
            store.features("elm", "short"), whole.features("elm", "short")
        )
        assert store.attrs["meristem"]["export"]["store"] == whole.digest
        assert done.digest == store.digest != whole.digest
        tree = xr.open_datatree(tmp_path / "out.zarr", engine="zarr")
        assert set(tree["elm"].children) == {"expression", "genome", "sequence", "short"}

    def test_unknown_names_name_the_nearest(self, two, tmp_path):
        with pytest.raises(UnknownNameError, match="'elm'"):
            export_store(featurestore.open(two), tmp_path / "x", species=["elms"])
        with pytest.raises(UnknownNameError, match="'short'"):
            export_store(featurestore.open(two), tmp_path / "x", embedders=["shorts"])


class TestRemoteProfile:
    def test_every_reader_reads_the_rounded_values(self, built, rounded):
        values = featurestore.open(built).features("plant", "kmer")
        bits = values.astype(np.float32).view(np.uint32)
        want = torch_bfloat16(values)
        store = featurestore.open(rounded)
        np.testing.assert_array_equal(store.features("plant", "kmer"), want)
        np.testing.assert_array_equal(
            zarr.open_group(rounded, mode="r")["plant/kmer/embedding"][...], want
        )
        np.testing.assert_array_equal(store["plant"]["kmer"].embedding.values, want)
        np.testing.assert_array_equal(
            store.features("plant", "onehot"), featurestore.open(built).features("plant", "onehot")
        )
        assert not np.array_equal(bits, want.astype(np.float32).view(np.uint32)), (
            "something was rounded"
        )
        assert verify(rounded).intact

    def test_codecs_are_those_of_the_specification_and_the_change_is_told(self, rounded):
        body = json.loads((rounded / "plant/kmer/embedding/zarr.json").read_text())
        inner = body["codecs"][0]["configuration"]["codecs"]
        assert [c["name"] for c in inner] == ["bytes", "blosc", "crc32c"]
        assert inner[1]["configuration"] == {
            "typesize": 2, "cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "blocksize": 0,
        }  # fmt: skip
        told = body["attributes"]["meristem"]["stored_as"]
        assert told["profile"] == "remote"
        assert "bfloat16" in told["values"]

    def test_it_is_smaller_and_rows_are_still_read_alone(self, built, rounded):
        def size(root: Path) -> int:
            return sum(p.stat().st_size for p in root.rglob("sequence/code/c/*/0/0"))

        assert size(rounded) < 0.6 * size(built)
        store, genes = featurestore.open(rounded), ["G00020", "G00003", "G00020"]
        np.testing.assert_array_equal(
            store.features("plant", "kmer", genes),
            torch_bfloat16(featurestore.open(built).features("plant", "kmer", genes)),
        )

    def test_a_flipped_bit_is_found(self, rounded, tmp_path):
        shutil.copytree(rounded, tmp_path / "s.zarr")
        victim = tmp_path / "s.zarr/plant/kmer/embedding/c/1/0/0/0"
        for bit in range(3, victim.stat().st_size * 8, 4001):
            raw = bytearray(victim.read_bytes())
            raw[bit // 8] ^= 1 << bit % 8
            victim.write_bytes(raw)
            with pytest.raises(DamagedStoreError, match=r"checksum|size"):
                featurestore.open(tmp_path / "s.zarr").features("plant", "kmer")
            raw[bit // 8] ^= 1 << bit % 8
            victim.write_bytes(raw)

    def test_values_that_were_rounded_are_not_rounded_again(self, rounded, tmp_path):
        with pytest.raises(InputError, match="as it was built"):
            export_store(featurestore.open(rounded), tmp_path / "x.zarr", profile="int8")
        again = export_store(featurestore.open(rounded), tmp_path / "x.zarr")
        assert again.digest == featurestore.open(rounded).digest
        result = CliRunner().invoke(cli, ["verify", str(rounded), "--recompute", "0.5"])
        assert result.exit_code == 2
        assert "remote" in result.stderr


def torch_bfloat16(values: np.ndarray) -> np.ndarray:
    """PyTorch's rounding, as an oracle."""
    torch = pytest.importorskip("torch")
    return torch.from_numpy(values.astype(np.float32)).to(torch.bfloat16).to(torch.float16).numpy()


def test_rounding_agrees_with_pytorch_for_every_float16():
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    got, want = round_to_bfloat16(every), torch_bfloat16(every)
    largest = np.isfinite(every) & np.isinf(want)
    np.testing.assert_array_equal(got[~largest], want[~largest])
    assert set(np.abs(got[largest]).tolist()) == {65280.0}, "what would overflow stays finite"


class TestInt8:
    def test_half_the_bytes_and_no_value_off_by_more_than_half_a_step(self, built, coded):
        store, exact = featurestore.open(coded), featurestore.open(built)
        values, want = (
            store.features("plant", "kmer"),
            exact.features("plant", "kmer").astype(np.float32),
        )
        scale = store.array("plant", "kmer/embedding_scale")
        assert (values.dtype, scale.dtype, scale.shape) == (
            np.float16,
            np.float32,
            (want.shape[-1],),
        )
        np.testing.assert_allclose(scale, np.abs(want).max(axis=(0, 1, 2)) / 127, rtol=1e-6)
        slack = 0.5 * scale + np.spacing(np.abs(want).astype(np.float16)).astype(np.float32)
        assert (np.abs(values.astype(np.float32) - want) <= slack).all()
        rows = {
            root: sum(
                p.stat().st_size
                for p in (root / "plant/kmer/embedding/c").rglob("*")
                if p.is_file()
            )
            for root in (built, coded)
        }
        assert 0.48 < rows[coded] / rows[built] < 0.55
        assert verify(coded).intact

    def test_a_source_and_some_genes_read_the_same(self, coded):
        store = featurestore.open(coded)
        everything = store.features("plant", "kmer")
        np.testing.assert_array_equal(
            store.features("plant", "kmer", ["G00003", "G00001"]),
            everything[store.rows("plant", ["G00003", "G00001"])],
        )
        source = store.feature_source("plant", "kmer")
        assert source.dtype == np.float16
        np.testing.assert_array_equal(source.read(np.array([5, 2])), everything[[5, 2]])

    def test_xarray_sees_codes_and_scale_and_decodes_them(self, coded):
        store = featurestore.open(coded)
        group = store["plant"]["kmer"]
        assert group.embedding.dtype == np.int8
        assert "embedding_scale" in group.coords
        values = decoded(group).embedding
        np.testing.assert_allclose(
            values.values, store.features("plant", "kmer"), rtol=1e-3, atol=1e-6
        )

    def test_vectors_that_are_not_there_stay_nan_and_zeros_stay_zeros(self):
        values = np.array([[1.0, -2.0], [np.nan, np.nan], [0.0, 0.0]], np.float16)
        scale = scale_of(largest_by_channel([values]))
        read = decode(encode(values, scale), scale)
        np.testing.assert_array_equal(np.isnan(read), np.isnan(values))
        np.testing.assert_array_equal(read[2], [0, 0])
        np.testing.assert_allclose(read[0], values[0], rtol=1e-3)

    @pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 2, 3, 5), (300, 4, 96)])
    def test_decoding_is_a_product(self, shape):
        rng = np.random.default_rng(0)
        codes = rng.integers(-128, 128, shape).astype(np.int8)
        scale = rng.lognormal(size=shape[-1]).astype(np.float32)
        want = (codes.astype(np.float32) * scale).astype(np.float16)
        want[codes == -128] = np.nan
        np.testing.assert_array_equal(decode(codes, scale), want)

    def test_what_a_ridge_predicts_hardly_changes(self):
        """On simulated vectors like those of a trained model: correlated channels, some 25 times as large."""
        rng = np.random.default_rng(0)
        n, bins, channels = 800, 8, 96
        latent = rng.normal(size=(n, bins, 12))
        x = latent @ rng.normal(size=(12, channels)) + 0.5 * rng.normal(size=(n, bins, channels))
        gain = rng.lognormal(0, 0.5, channels)
        gain[:4] *= 25
        x = (x * gain + rng.normal(size=channels)).astype(np.float16)
        y = latent[:, 2, :3].sum(axis=-1) + latent[:, 5, 0] + 2 * rng.normal(size=n)
        scale = scale_of(largest_by_channel([x]))
        codes = encode(x, scale)
        assert codes.nbytes * 2 == x.nbytes
        train = np.arange(n) < 600

        def predict(values: np.ndarray) -> np.ndarray:
            flat = values.reshape(n, -1).astype(np.float64)
            flat = (flat - flat[train].mean(axis=0)) / flat[train].std(axis=0)
            gram = flat[train] @ flat[train].T + 1000 * np.eye(600)
            return flat[~train] @ flat[train].T @ np.linalg.solve(gram, y[train])

        assert np.corrcoef(predict(x), y[~train])[0, 1] > 0.5, "there is something to predict"
        assert np.corrcoef(predict(x), predict(decode(codes, scale)))[0, 1] > 0.9999


class TestBucket:
    @pytest.fixture
    def bucket(self, s3, request) -> str:
        return s3.make_bucket("b" + str(abs(hash(request.node.nodeid)) % 10**12))

    def test_what_is_published_reads_the_same_and_comes_back(self, built, s3, bucket, tmp_path):
        done = export_store(featurestore.open(built), f"s3://{bucket}/v1/s.zarr")
        store = featurestore.open(f"s3://{bucket}/v1/s.zarr")
        assert done.digest == store.digest == featurestore.open(built).digest
        stored = {k.removeprefix("v1/s.zarr/"): s3.object(bucket, k) for k in s3.keys(bucket)}
        assert stored == files(built)
        export_store(store, tmp_path / "back.zarr")
        assert files(tmp_path / "back.zarr") == files(built)

    def test_compressed_rows_are_fetched_alone_once_their_index_is_known(self, built, bucket, s3):
        export_store(featurestore.open(built), f"s3://{bucket}/s.zarr", profile="remote")
        store, want = featurestore.open(f"s3://{bucket}/s.zarr"), featurestore.open(built)
        before = store.files.requests
        got = store.features("plant", "kmer", ["G00003"])
        np.testing.assert_array_equal(
            got, torch_bfloat16(want.features("plant", "kmer", ["G00003"]))
        )
        assert store.files.requests - before == 3, "ids, index, row"
        store.features("plant", "kmer", ["G00004"])
        assert store.files.requests - before == 4, "another row of the same shard"

    def test_a_half_published_store_cannot_be_opened_and_is_completed(self, built, bucket, s3):
        url = f"s3://{bucket}/s.zarr"

        def stop(done: int, total: int) -> None:
            if done == total - 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export_store(featurestore.open(built), url, on_file=stop)
        assert "s.zarr/manifest.json" not in s3.keys(bucket)
        with pytest.raises((FileNotFoundError, DamagedStoreError)):
            featurestore.open(url)
        done = export_store(featurestore.open(built), url)
        assert done.written <= 8
        assert featurestore.open(url).digest == done.digest
        assert export_store(featurestore.open(built), url).written == 0, "once more changes nothing"

    def test_an_object_of_somebody_else_is_named_and_left_alone(self, built, bucket, s3):
        s3.put(bucket, "s.zarr/plant/tss/c/0", b"mine")
        with pytest.raises(
            RemoteStoreError, match=r"s3://.*/s\.zarr/plant/tss/c/0: another object"
        ):
            export_store(featurestore.open(built), f"s3://{bucket}/s.zarr")
        assert s3.object(bucket, "s.zarr/plant/tss/c/0") == b"mine"
        assert "s.zarr/manifest.json" not in s3.keys(bucket)

    def test_another_store_is_not_published_over_one_that_is_there(self, built, bucket, s3):
        export_store(featurestore.open(built), f"s3://{bucket}/s.zarr")
        before = {k: s3.object(bucket, k) for k in s3.keys(bucket)}
        with pytest.raises(RemoteStoreError, match="another object"):
            export_store(featurestore.open(built), f"s3://{bucket}/s.zarr", profile="int8")
        assert {k: s3.object(bucket, k) for k in before} == before

    def test_the_command_publishes_and_building_there_is_refused(self, built, bucket, tmp_path):
        result = CliRunner().invoke(
            cli, ["export", str(built), "--to", "zarr", "--out", f"s3://{bucket}/s.zarr", "--json"]
        )
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["digest"] == featurestore.open(built).digest
        refused = CliRunner().invoke(
            cli, ["build", str(tmp_path), "--store", f"s3://{bucket}/s.zarr"]
        )
        assert refused.exit_code == 2
        assert "fs export" in refused.stderr


def test_google_cloud_storage_by_its_own_conditions(built, tmp_path, monkeypatch):
    pytest.importorskip("obstore")
    lost = ["embedding/c/1/0/0/0", "s.zarr/zarr.json", "manifest.json"]
    with google_server(tmp_path, lost) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        export_store(featurestore.open(built), "gs://plants/v1/s.zarr")
        assert not lost, "what was put and its answer lost is found to be equal the second time"
        store = featurestore.open("gs://plants/v1/s.zarr")
        want = featurestore.open(built)
        assert store.digest == want.digest
        np.testing.assert_array_equal(
            store.features("plant", "kmer"), want.features("plant", "kmer")
        )
        assert CliRunner().invoke(cli, ["verify", "gs://plants/v1/s.zarr"]).exit_code == 0
        assert export_store(want, "gs://plants/v1/s.zarr").written == 0
        with pytest.raises(RemoteStoreError, match="another object"):
            export_store(want, "gs://plants/v1/s.zarr", profile="remote")
