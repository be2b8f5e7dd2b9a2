"""What is read over a network is what is read from the disk, by as few requests as it takes, or an error that says why."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import featurestore
from featurestore.cli import cli
from featurestore.errors import (
    DamagedStoreError,
    InputError,
    RemoteStoreError,
    StoreNotFoundError,
    UnknownNameError,
)
from featurestore.store import remote_credentials
from featurestore.store.reader import Store
from featurestore.store.remote import RemoteFiles, RemoteOptions
from tests.builders.remote import SECRET, cut, short, slow, spoilt, status

QUICK = RemoteOptions(timeout=10, connect_timeout=5, attempts=3, backoff=0.01, longest_backoff=0.02)
IMPATIENT = RemoteOptions(timeout=0.5, attempts=8, backoff=0.01, longest_backoff=0.02)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Short waits: the number of attempts is what counts."""
    monkeypatch.setattr("featurestore.store.remote.RemoteOptions", lambda: QUICK)


def everything(store: Store) -> dict[str, object]:
    """All that the public interface gives of a store, as lists."""
    found: dict[str, object] = {}
    for species in store.species:
        for name, value in vars(store.genes(species)).items():
            found[f"{species}/{name}"] = None if value is None else value.tolist()
        table = store.expression(species)
        assert table is not None
        found[f"{species}/value"] = np.nan_to_num(table.value, nan=-1).tolist()
        for group in store.groups(species):
            for name, variable in store[species][group].variables.items():
                found[f"{species}/{group}/{name}"] = repr(np.asarray(variable.values).tolist())
        for embedder in store.embedders(species):
            found[f"{species}/{embedder}"] = store.features(species, embedder).tolist()
            found[f"{species}/{embedder}/status"] = store.status(species, embedder).tolist()
    return found


@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_everything_reads_the_same_over_http(built, web, backend):
    if backend == "fsspec":
        pytest.importorskip("aiohttp")
    assert everything(featurestore.open(web.url, backend=backend)) == everything(
        featurestore.open(built)
    )


def test_opening_takes_two_requests_and_a_gene_one_more_than_its_ids(built, web):
    local = featurestore.open(built)
    store = featurestore.open(web.url)
    assert sorted(path.rpartition("/")[2] for _, path, _ in web.asked) == [
        "manifest.json",
        "zarr.json",
    ]
    genes = local.genes("plant").gene.tolist()
    web.forget()
    one = store.features("plant", "kmer", [genes[20]])
    np.testing.assert_array_equal(one, local.features("plant", "kmer", [genes[20]]))
    row = one[0].nbytes + 4
    assert [(path.split("s.zarr/")[1], span) for _, path, span in web.asked] == [
        ("plant/gene/c/0", ""),
        ("plant/kmer/embedding/c/1/0/0/0", f"bytes={4 * row}-{5 * row - 1}"),
    ]


def test_neighbouring_rows_come_by_one_request_and_others_are_not_fetched(built, web):
    store = featurestore.open(web.url)
    stored = store.stored("plant", "kmer/embedding")
    row = int(np.prod(stored.shape[1:])) * 2 + 4
    web.forget()
    rows = np.array([7, 3, 4, 5, 3, 17, 30, 31])
    np.testing.assert_array_equal(
        stored.take(rows), featurestore.open(built).features("plant", "kmer")[rows]
    )
    assert sorted(span for *_, span in web.asked) == sorted(
        f"bytes={a * row}-{b * row - 1}" for a, b in ((3, 6), (7, 8), (1, 2), (14, 16))
    )
    assert web.sent == 7 * row


def test_a_whole_array_is_one_request_a_shard(web):
    store = featurestore.open(web.url)
    web.forget()
    store.stored("plant", "kmer/embedding").read()
    assert len(web.asked) == 3


def test_features_that_are_asked_for_twice_ask_for_the_ids_once(web):
    store = featurestore.open(web.url)
    for gene in ("G00003", "G00004"):
        store.features("plant", "kmer", [gene])
    assert [p for _, p, _ in web.asked if "/gene/" in p] == ["/s.zarr/plant/gene/c/0"]


@pytest.mark.parametrize("fault", [status(500), status(503), status(429), cut, short])
def test_a_fault_that_passes_is_not_noticed(built, web, fault):
    for ending in ("manifest.json", "embedding/c/1/0/0/0", "gene/c/0"):
        web.faults[ending] = [fault, fault]
    store, local = featurestore.open(web.url), featurestore.open(built)
    np.testing.assert_array_equal(store.features("plant", "kmer"), local.features("plant", "kmer"))
    assert store.genes("plant").gene.tolist() == local.genes("plant").gene.tolist()
    assert not any(web.faults.values()), "every fault was met"


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (status(500), "after 3 requests; the last: .*500"),
        (cut, "after 3 requests; the last: cut short"),
        (status(403), "access refused"),
        (status(404), "missing|not found"),
    ],
)
def test_a_fault_that_stays_is_told_with_the_file(web, fault, told):
    store = featurestore.open(web.url)
    web.always["embedding/c/1/0/0/0"] = fault
    with pytest.raises(
        (RemoteStoreError, DamagedStoreError), match=f"(?s)embedding/c/1/0/0/0.*({told})"
    ):
        store.features("plant", "kmer")


def test_a_server_that_is_late_is_asked_again_and_given_up_in_the_end(built, web, monkeypatch):
    monkeypatch.setattr("featurestore.store.remote.RemoteOptions", lambda: IMPATIENT)
    store = featurestore.open(web.url)
    web.faults["status/c/0/0"] = [slow(0.8)]
    np.testing.assert_array_equal(
        store.status("plant", "kmer"), featurestore.open(built).status("plant", "kmer")
    )
    impatient = RemoteFiles(web.url, options=replace(IMPATIENT, attempts=2))
    web.always["status/c/1/0"] = slow(0.8)
    with pytest.raises(RemoteStoreError, match="after 2 requests; the last: no answer in time"):
        impatient.read("plant/kmer/status/c/1/0")


def test_a_bit_that_flips_on_the_way_is_fetched_again_and_one_that_stays_is_an_error(built, web):
    store = featurestore.open(web.url)
    web.faults["embedding/c/1/0/0/0"] = [spoilt]
    np.testing.assert_array_equal(
        store.features("plant", "kmer"), featurestore.open(built).features("plant", "kmer")
    )
    web.always["embedding/c/1/0/0/0"] = spoilt
    with pytest.raises(
        DamagedStoreError, match=r"s\.zarr/plant/kmer/embedding/c/1/0/0/0.*checksum"
    ):
        store.features("plant", "kmer")
    for ending in ("manifest.json", "s.zarr/zarr.json"):
        web.always = {ending: spoilt}
        with pytest.raises(DamagedStoreError, match="bytes are not those that were written"):
            featurestore.open(web.url)


def test_a_body_of_the_wrong_length_is_never_read_as_values(web):
    store = featurestore.open(web.url)
    web.always["status/c/0/0"] = short
    with pytest.raises(RemoteStoreError, match=r"bytes where .* belong"):
        store.status("plant", "kmer")


def test_a_reader_travels_to_another_process(built, web):
    store = featurestore.open(web.url)
    files = pickle.loads(pickle.dumps(store.files))  # noqa: S301 - our own, a moment ago
    assert (
        files.read_range("plant/kmer/embedding/c/0/0/0/0", 3, 5)
        == (built / "plant/kmer/embedding/c/0/0/0/0").read_bytes()[3:8]
    )


FORKED = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
import featurestore
from featurestore.errors import RemoteStoreError
store = featurestore.open(sys.argv[1])
store.genes("plant")
child = os.fork()
if child == 0:
    signal.alarm(30)
    for again in (lambda: store.features("plant", "kmer"), lambda: featurestore.open(sys.argv[1])):
        try:
            again()
        except RemoteStoreError as error:
            print("refused" if "spawn" in str(error) else error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_forked_process_is_told_and_does_not_wait_for_ever(web):
    words = [sys.executable, "-c", FORKED, web.url]
    told = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    assert told.split() == ["refused", "refused"]


class TestS3:
    @pytest.fixture
    def address(self, s3, built, request) -> str:
        bucket = "bucket-" + str(abs(hash(request.node.name)) % 10**9)
        s3.make_bucket(bucket)
        for path in built.rglob("*"):
            if path.is_file():
                s3.put(bucket, f"stores/s.zarr/{path.relative_to(built)}", path.read_bytes())
        return f"s3://{bucket}/stores/s.zarr"

    def test_everything_reads_the_same(self, address, built):
        assert everything(featurestore.open(address)) == everything(featurestore.open(built))

    def test_commands_take_an_address(self, address, built):
        def run(*words: str) -> str:
            result = CliRunner().invoke(cli, list(words))
            assert result.exit_code == 0, result.output
            return result.stdout

        facts = json.loads(run("ls", address, "--json"))
        assert facts["store"] == address
        assert facts["groups"] == json.loads(run("ls", str(built), "--json"))["groups"]
        assert "annotated 40" in run("info", address)
        assert run("query", address, "--gene", "G00003") == run(
            "query", str(built), "--gene", "G00003"
        )
        assert "intact" in run("verify", address)

    def test_verify_names_what_is_spoilt_missing_or_strange(self, address, s3):
        bucket = address.split("/")[2]
        victim = "stores/s.zarr/plant/kmer/embedding/c/1/0/0/0"
        raw = bytearray(s3.object(bucket, victim))
        raw[100] ^= 1
        s3.put(bucket, victim, bytes(raw))
        s3.put(bucket, "stores/s.zarr/plant/tss/c/0", b"short")
        s3.put(bucket, "stores/s.zarr/plant/stranger", b"x")
        result = CliRunner().invoke(cli, ["verify", address, "--json"])
        assert result.exit_code == 3
        assert {f["file"] for f in json.loads(result.stdout)["findings"]} == {
            "plant/kmer/embedding/c/1/0/0/0", "plant/tss/c/0", "plant/stranger",
        }  # fmt: skip

    def test_no_bucket_no_store_and_no_access_are_told_apart(self, s3, moto, monkeypatch):
        with pytest.raises(RemoteStoreError, match=r"s3://no-such-bucket/x\.zarr/.*no such bucket"):
            featurestore.open("s3://no-such-bucket/x.zarr")
        s3.make_bucket("empty-bucket")
        with pytest.raises(StoreNotFoundError, match=r"s3://empty-bucket/x\.zarr: no store here"):
            featurestore.open("s3://empty-bucket/x.zarr")
        for name in moto.environment:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", "/nonexistent")
        monkeypatch.setattr(remote_credentials, "_answers", lambda scheme: False)
        with pytest.raises(RemoteStoreError, match=r"AWS_ACCESS_KEY_ID.*AWS_PROFILE"):
            featurestore.open("s3://empty-bucket/x.zarr")
        with pytest.raises(RemoteStoreError, match="GOOGLE_APPLICATION_CREDENTIALS"):
            featurestore.open("gs://empty-bucket/x.zarr")

    def test_a_profile_gives_keys_region_and_endpoint(
        self, address, s3, moto, monkeypatch, tmp_path
    ):
        for name in moto.environment:
            monkeypatch.delenv(name)
        (tmp_path / ".aws").mkdir()
        (tmp_path / ".aws/credentials").write_text(
            f"[lab]\naws_access_key_id = AKIAX\naws_secret_access_key = {SECRET}\n"
        )
        (tmp_path / ".aws/config").write_text(
            f"[profile lab]\nregion = eu-central-1\nendpoint_url = {moto.url}\n"
        )
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("AWS_PROFILE", "lab")
        assert featurestore.open(address).species == ["plant"]
        monkeypatch.setenv("AWS_PROFILE", "labs")
        with pytest.raises(UnknownNameError, match="Did you mean 'lab'"):
            featurestore.open(address)


class TestSecrets:
    def test_passwords_in_addresses_are_refused_and_never_shown(self, web):
        host = web.url.removeprefix("http://")
        with pytest.raises(InputError) as caught:
            featurestore.open(f"https://user:hunter2@{host}")
        assert "hunter2" not in str(caught.value)
        assert "netrc" in str(caught.value)

    def test_a_signature_is_sent_and_never_shown(self, web):
        store = featurestore.open(f"{web.url}?sig=s3cr3tsignature&se=2030")
        assert all("sig=s3cr3tsignature" in path for _, path, _ in web.asked)
        web.always["embedding/c/1/0/0/0"] = status(500, "sorry, ?sig=s3cr3tsignature failed")
        with pytest.raises(RemoteStoreError) as caught:
            store.features("plant", "kmer")
        told = f"{caught.value} {store!r} {store.path} {store.files.label} {vars(store.files)['address']!r}"
        assert "s3cr3t" not in told

    def test_no_message_of_a_refusing_s3_holds_a_key(self, web, monkeypatch):
        for name, value in {
            "AWS_ACCESS_KEY_ID": "AKIAVERYSECRET", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "eu-central-1",
            "AWS_SESSION_TOKEN": "session-token-secret", "AWS_ENDPOINT_URL": web.url.rpartition("/")[0],
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        body = f"<Error><Code>InvalidAccessKeyId</Code><Message>AKIAVERYSECRET {SECRET}</Message></Error>"
        web.always["manifest.json"] = web.always["zarr.json"] = status(403, body)
        with pytest.raises(RemoteStoreError, match="InvalidAccessKeyId") as caught:
            featurestore.open("s3://bucket/x.zarr")
        for secret in ("AKIAVERYSECRET", SECRET, "session-token-secret"):
            assert secret not in str(caught.value)
        assert any("AKIAVERYSECRET" in given for given in web.given), (
            "the request itself was signed"
        )

    def test_a_login_comes_from_netrc(self, web, monkeypatch, tmp_path):
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
        (tmp_path / "netrc").chmod(0o600)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        featurestore.open(web.url)
        assert set(web.given) == {"Basic bWU6aHVudGVyMg=="}

    @pytest.mark.parametrize(
        ("url", "told"),
        [
            ("ftp://host/x.zarr", "Known: s3://"), ("s3:///x.zarr", "no bucket"), ("htps://b/x", "Did you mean 'https'"),
            ("s3://b/../x", r"'\.\.'"), ("https://host:port/x", "not an address"), ("s3://b/x?versionId=3", "query"),
        ],
    )  # fmt: skip
    def test_addresses_that_are_none(self, url, told):
        with pytest.raises(InputError, match=told):
            featurestore.open(url)


def test_keys_that_leave_the_store_are_never_asked_for(web):
    files = RemoteFiles(web.url)
    for key in ("../x", "/etc/passwd", "a/../../b"):
        with pytest.raises(DamagedStoreError, match="no path within a store"):
            files.read(key)
    assert not web.asked
