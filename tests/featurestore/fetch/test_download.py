"""One file over real sockets: what is cut off goes on, nothing is spliced, nothing wrong gets a name."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess

import numpy as np
import pytest

from featurestore.errors import FetchError, InputError
from featurestore.fetch.checksums import Checksum, bsd_sum, parse_sums, rotating_sum
from featurestore.fetch.download import RemoteFile, download
from featurestore.fetch.web import Web
from tests.builders.download_server import Served

DATA = np.random.default_rng(0).bytes(700_001)
OTHER = np.random.default_rng(1).bytes(700_001)


def md5(data: bytes) -> Checksum:
    return Checksum("md5", hashlib.md5(data, usedforsecurity=False).hexdigest())


def remote(server, data=DATA, *, size=True, checksum=True, name="x.bin", **faults) -> RemoteFile:
    server.files["/d/x.bin"] = Served(data, **faults)
    return RemoteFile(
        "https://nowhere.example/d/x.bin", name, len(data) if size else None,
        md5(data) if checksum else None,
    )  # fmt: skip


def parts(folder) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


def test_a_file_comes_whole_and_leaves_nothing_beside_it(web, server, tmp_path):
    counted = []
    state = download(web, remote(server), tmp_path / "a", lambda n, now: counted.append((n, now)))
    assert state == "fetched"
    assert (tmp_path / "a" / "x.bin").read_bytes() == DATA
    assert parts(tmp_path / "a") == []
    assert sum(n for n, now in counted if now) == len(DATA)


def test_what_is_there_is_not_fetched_again(web, server, tmp_path):
    file = remote(server)
    download(web, file, tmp_path)
    assert download(web, file, tmp_path) == "there"
    assert len(server.asked) == 1
    unknown = RemoteFile(file.url, file.name)
    assert download(web, unknown, tmp_path) == "there, not checked"


@pytest.mark.parametrize("mine", [b"short", b"x" * len(DATA)], ids=["size", "content"])
def test_another_file_of_the_name_is_not_overwritten(web, server, tmp_path, mine):
    file = remote(server)
    (tmp_path / "x.bin").write_bytes(mine)
    with pytest.raises(InputError, match="Nothing was overwritten"):
        download(web, file, tmp_path)
    assert (tmp_path / "x.bin").read_bytes() == mine


@pytest.mark.parametrize("checksum", [True, False])
def test_cut_connections_go_on_where_they_stopped(web, server, tmp_path, checksum):
    file = remote(server, checksum=checksum, cut=[100_000, 1, 250_000])
    assert download(web, file, tmp_path) == "fetched"
    assert (tmp_path / "x.bin").read_bytes() == DATA
    assert server.ranges == ["", "bytes=100000-", "bytes=100001-", "bytes=350001-"]


def test_tries_count_anew_with_every_byte_gained(web, server, tmp_path, pauses):
    file = remote(server, cut=[10_000] * 9)  # far more than the three tries without progress
    assert download(web, file, tmp_path) == "fetched"
    assert len(server.asked) == 10
    assert max(pauses) < 2  # and so does the pause


def test_a_second_command_goes_on_with_what_the_first_left(web, server, tmp_path):
    file = remote(server, cut=[200_000], statuses=[])
    server.files["/d/x.bin"].before = lambda f: f.statuses.extend(
        [503] * 9 if len(server.asked) == 2 else []
    )
    with pytest.raises(FetchError, match="goes on with it"):
        download(web, file, tmp_path)
    assert (tmp_path / ".x.bin.part").stat().st_size == 200_000
    assert not (tmp_path / "x.bin").exists()
    server.files["/d/x.bin"].statuses.clear()
    server.files["/d/x.bin"].before = None
    counted = []
    assert download(web, file, tmp_path, lambda n, now: counted.append((n, now))) == "fetched"
    assert server.ranges[-1] == "bytes=200000-"
    assert sum(n for n, now in counted if now) == len(DATA) - 200_000
    assert (tmp_path / "x.bin").read_bytes() == DATA


def left_over(folder, server, file, *, tag=None, content=DATA, count=300_000):
    """A part as an earlier command leaves it."""
    (folder / ".x.bin.part").write_bytes(content[:count])
    note = {"url": file.url, "etag": server.files["/d/x.bin"].etag if tag is None else tag}
    (folder / ".x.bin.part.json").write_text(json.dumps(note))


@pytest.mark.parametrize("honours", [True, False], ids=["If-Range kept", "If-Range ignored"])
def test_a_file_that_changed_is_not_spliced(web, server, tmp_path, honours):
    file = remote(server, OTHER, checksum=False, honours_if_range=honours)
    left_over(tmp_path, server, file, tag='"of another version"')
    assert download(web, file, tmp_path) == "fetched"
    assert (tmp_path / "x.bin").read_bytes() == OTHER


def test_without_any_tag_the_checksum_finds_the_splice_and_all_comes_again(web, server, tmp_path):
    file = remote(server, OTHER, tag="")
    left_over(tmp_path, server, file, tag="")
    assert download(web, file, tmp_path) == "fetched"
    assert (tmp_path / "x.bin").read_bytes() == OTHER
    assert server.ranges == ["bytes=300000-", ""]


def test_without_tag_and_checksum_it_starts_over(web, server, tmp_path):
    file = remote(server, tag="", checksum=False)
    left_over(tmp_path, server, file, tag="")
    download(web, file, tmp_path)
    assert server.ranges == [""]


def test_a_weak_tag_is_no_promise_and_the_date_serves(web, server, tmp_path):
    file = remote(server, tag='W/"1"', modified="Sat, 01 Jan 2022 00:00:00 GMT", cut=[1000])
    seen = []
    download(web, file, tmp_path)
    seen = server.ranges
    assert seen == ["", "bytes=1000-"]
    assert (tmp_path / "x.bin").read_bytes() == DATA


def test_a_server_without_ranges_sends_all_again(web, server, tmp_path):
    file = remote(server, ranges=False, cut=[400_000])
    assert download(web, file, tmp_path) == "fetched"
    assert (tmp_path / "x.bin").read_bytes() == DATA


def test_a_server_without_ranges_that_always_cuts_is_given_up(web, server, tmp_path):
    file = remote(server, ranges=False, cut=[400_000, 300_000, 200_000, 400_000, 100_000, 50_000])
    with pytest.raises(FetchError, match="given up after"):
        download(web, file, tmp_path)


def test_a_whole_part_is_known_by_416(web, server, tmp_path):
    file = remote(server)
    left_over(tmp_path, server, file, count=len(DATA))
    assert download(web, file, tmp_path) == "fetched"
    assert server.ranges == [f"bytes={len(DATA)}-"]
    assert (tmp_path / "x.bin").read_bytes() == DATA


def test_a_part_longer_than_the_file_starts_over(web, server, tmp_path):
    file = remote(server)
    left_over(tmp_path, server, file, content=DATA + b"and more", count=len(DATA) + 8)
    assert download(web, file, tmp_path) == "fetched"
    assert (tmp_path / "x.bin").read_bytes() == DATA


def test_another_range_than_asked_for_is_refused(web, server, tmp_path):
    file = remote(server, extra={"Content-Range": "bytes 5-9/700001"})
    left_over(tmp_path, server, file)
    server.files["/d/x.bin"].before = lambda f: f.extra.clear() if len(server.asked) > 1 else None
    assert download(web, file, tmp_path) == "fetched"
    assert (tmp_path / "x.bin").read_bytes() == DATA


def test_a_wrong_checksum_leaves_nothing(web, server, tmp_path):
    file = remote(server)
    wrong = RemoteFile(file.url, file.name, file.size, md5(OTHER))
    with pytest.raises(FetchError, match=f"md5 {md5(DATA).value} where md5 {md5(OTHER).value}"):
        download(web, wrong, tmp_path)
    assert not (tmp_path / "x.bin").exists()
    assert (tmp_path / ".x.bin.part").stat().st_size == 0


def test_a_wrong_size_is_told_before_a_byte_is_taken(web, server, tmp_path):
    file = remote(server, checksum=False)
    with pytest.raises(FetchError, match="sends 700,001 bytes where 9 are published"):
        download(web, RemoteFile(file.url, file.name, 9), tmp_path)
    assert not (tmp_path / "x.bin").exists()


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_servers_that_are_busy_are_asked_again(web, server, tmp_path, pauses, status):
    file = remote(server, statuses=[status, status])
    assert download(web, file, tmp_path) == "fetched"
    assert len(pauses) == 2
    assert pauses[1] > pauses[0]


def test_retry_after_is_kept_and_bounded(web, server, tmp_path, pauses):
    file = remote(server, statuses=[503] * 9, extra={"Retry-After": "7"})
    server.files["/d/x.bin"].before = lambda f: (
        f.extra.update({"Retry-After": "99999"}) if len(server.asked) > 1 else None
    )
    with pytest.raises(FetchError, match="503"):
        download(web, file, tmp_path)
    assert pauses[:2] == [7.0, 120.0]


@pytest.mark.parametrize(("status", "why"), [(404, "no such file"), (403, "not let"), (401, "who")])
def test_what_will_not_change_is_told_at_once(web, server, tmp_path, pauses, status, why):
    file = remote(server, statuses=[status])
    with pytest.raises(FetchError, match=why):
        download(web, file, tmp_path)
    assert pauses == []


def test_a_server_that_falls_silent_is_asked_for_the_rest(server, tmp_path, pauses):
    web = Web(server.url, allow_http=True, timeout=0.2, retries=3, sleep=pauses.append)
    file = remote(server, stall=0.6)
    assert download(web, file, tmp_path) == "fetched"
    web.close()
    assert server.ranges[0] == ""
    assert server.ranges[1].startswith("bytes=")
    assert (tmp_path / "x.bin").read_bytes() == DATA


def test_nobody_there(tmp_path, pauses):
    web = Web("http://127.0.0.1:9", allow_http=True, timeout=1, retries=2, sleep=pauses.append)
    with pytest.raises(FetchError, match="given up after 3 tries"):
        download(web, RemoteFile("https://x.example/y", "y"), tmp_path)
    assert len(pauses) == 2


def test_redirects_are_followed_and_bounded(web, server, tmp_path):
    file = remote(server)
    server.files["/start"] = Served(location="/d/x.bin")
    assert (
        download(web, RemoteFile("https://x.example/start", "y", file.size), tmp_path) == "fetched"
    )
    server.files["/round"] = Served(location="/round")
    with pytest.raises(FetchError, match="more than 5 redirects"):
        download(web, RemoteFile("https://x.example/round", "z"), tmp_path)
    assert sum(path == "/round" for path, _ in server.asked) == 6


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "https:///x"])
def test_redirects_to_anything_but_the_web_are_refused(web, server, tmp_path, place):
    server.files["/start"] = Served(location=place)
    with pytest.raises(FetchError, match="redirects to"):
        download(web, RemoteFile("https://x.example/start", "y"), tmp_path)


def test_https_alone_unless_told(server, tmp_path):
    with pytest.raises(InputError, match="--allow-http"):
        Web(server.url)
    with pytest.raises(InputError, match="--allow-http"):
        download(Web(), RemoteFile(f"{server.url}/d/x.bin", "x"), tmp_path)
    assert server.asked == []


def test_a_redirect_that_drops_the_encryption_is_refused(tmp_path, monkeypatch):
    class Answer:
        status, reason, headers = 302, "Found", {"Location": "http://x.example/y"}

        def close(self):
            pass

    monkeypatch.setattr(Web, "_ask", lambda *_: Answer())
    with pytest.raises(FetchError, match=r"redirects to http://x.example/y: is not encrypted"):
        download(Web(), RemoteFile("https://x.example/y", "y"), tmp_path)


def test_the_proxy_of_the_environment_is_asked(server, tmp_path, monkeypatch):
    """A proxy is asked for the whole address; one that NO_PROXY names is gone around."""
    server.files["/d/x.bin"] = Served(DATA)
    monkeypatch.setenv("http_proxy", server.url)
    web = Web(allow_http=True)
    file = RemoteFile("http://far.example/d/x.bin", "x.bin", len(DATA), md5(DATA))
    assert download(web, file, tmp_path) == "fetched"
    assert server.asked == [("http://far.example/d/x.bin", "")]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    download(web, RemoteFile(f"{server.url}/d/x.bin", "y.bin"), tmp_path)
    assert server.asked[-1] == ("/d/x.bin", "")
    web.close()


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/b", "..", ".hidden", "a\nb", "a\x1b[2J", "x.part", "", "a" * 300]
)
def test_names_that_lead_out_are_refused(web, server, tmp_path, name):
    file = remote(server, name=name)
    with pytest.raises(FetchError, match="no plain name"):
        download(web, file, tmp_path / "in")
    assert server.asked == []
    assert sorted(tmp_path.rglob("*")) == []


def test_a_link_under_the_name_of_the_part_is_not_written_through(web, server, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / ".x.bin.part").symlink_to(victim)
    with pytest.raises(OSError, match=r"Too many levels|symbolic"):
        download(web, remote(server), folder)
    assert victim.read_bytes() == b"mine"


def test_two_at_one_file_do_not_mix(web, server, tmp_path):
    with open(tmp_path / ".x.bin.part", "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another fs fetch"):
            download(web, remote(server), tmp_path)


@pytest.mark.parametrize("text", ["{", '{"etag": 5}', "[]", ""])
def test_a_spoilt_note_costs_a_download_and_no_more(web, server, tmp_path, text):
    file = remote(server, checksum=False)
    (tmp_path / ".x.bin.part").write_bytes(b"what is this")
    (tmp_path / ".x.bin.part.json").write_text(text)
    assert download(web, file, tmp_path) == "fetched"
    assert (tmp_path / "x.bin").read_bytes() == DATA


@pytest.mark.skipif(not os.path.exists("/usr/bin/sum"), reason="no sum of coreutils here")
@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 70_000])
def test_the_bsd_sum_is_that_of_the_system(tmp_path, count, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(DATA[:count])
    told = subprocess.run(["/usr/bin/sum", "-r", path], capture_output=True, text=True, check=True)
    value, blocks = told.stdout.split()[:2]
    listed = parse_sums(f"{value} {blocks} x\n")["x"]
    assert listed == Checksum("sum", str(int(value)), int(blocks))
    assert listed.of(path) == listed
    assert rotating_sum(iter([DATA[: count // 3], DATA[count // 3 : count]])) == int(value)
    monkeypatch.setenv("PATH", "")
    assert bsd_sum(path) == int(value)
    path.write_bytes(b"\1" + DATA[1 : count + 1])
    assert listed.of(path) != listed
