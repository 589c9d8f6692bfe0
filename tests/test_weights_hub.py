"""From a loopback Hub: what a good one gives, and how each fault is told in time, and nothing broken left."""

import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hub
import pytest
from machine import Machine, manifest

from irestore.weights.transfer import watched

CONTENT = bytes(range(256)) * 1200  # 300 KB that no network would take for weights; the Hub does not care
BIG = os.urandom(1 << 20) * 24  # above the client's chunk of 10 MB, where a cut download used to be resumed for ever


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    manifest(tmp_path / "m.toml", CONTENT)
    return Machine(tmp_path, more={"IRESTORE_MANIFEST": str(tmp_path / "m.toml")})


def test_a_download_is_verified_cached_and_never_repeated(machine):
    with hub.serving(CONTENT) as server:
        machine.endpoint = server.url
        first = machine.irestore("models", "download", "toy")
        assert first.code == 0, first.err
        assert Path(first.out.strip()).read_bytes() == CONTENT
        assert "downloading 307 kB from someone/toys@868878ce4c25" in first.err
        asked = len(server.requests)
        files = {path for _, path, _ in server.requests if not path.startswith("/api/")}
        assert files == {f"/someone/toys/resolve/{hub.COMMIT}/models/toy.safetensors"}
        again = machine.irestore("models", "download", "toy")
        assert (again.code, again.out) == (0, first.out)
        assert len(server.requests) == asked
    machine.more["HF_HUB_OFFLINE"] = "1"
    assert machine.irestore("models", "path", "toy").out == first.out


FAULTS = {
    "no repo": (hub.status(404, X_Error_Code="RepoNotFound"), "not found at .*someone/toys.*check repo"),
    "no file": (hub.status(404, X_Error_Code="EntryNotFound"), "has no such file at revision 868878ce"),
    "no revision": (hub.status(404, X_Error_Code="RevisionNotFound"), "has no revision 868878ce"),
    "404": (hub.status(404), "not found at .*404"),
    "401": (hub.status(401, X_Error_Code="RepoNotFound"), "refused: 401; .*needs a login .*HF_TOKEN"),
    "bad token": (
        hub.status(401, X_Error_Message="Invalid credentials in Authorization header"),
        "does not accept your token .*renew HF_TOKEN",
    ),
    "403": (hub.status(403), "http://127.0.0.1:[0-9]+ refused: 403; a filter forbids it, or .* not read .*toys"),
    "gated": (hub.status(403, X_Error_Code="GatedRepo"), "gated; accept its terms there, then set HF_TOKEN"),
    "429": (hub.status(429), "too many requests"),
    "500": (hub.status(500), "a fault of its own .HTTP 500.; try again later"),
    "503": (hub.status(503), "a fault of its own .HTTP 503.; try again later"),
    "silent": (hub.silent, r"asking 127\.0\.0\.1:\d+ \.\.\.\n(.*\n)*.*does not answer in time"),
    "short": (hub.short, "was cut before the whole file had come; try again"),
    "dripping headers": (hub.dripping_headers, r"does not answer in time \(0 bytes within 6 s\)"),
    "endless": (hub.endless, "announced 307,200 bytes for models/toy.safetensors and sends more"),
    "understated": (hub.understated, "announced 1,000 bytes for models/toy.safetensors and sends more"),
    "hostile name": (hub.named("../../../../victim"), "answers, but not as a Hub does"),
    "absolute name": (hub.named("/tmp/victim"), "answers, but not as a Hub does"),
    "circular": (hub.circular, "answers, but not as a Hub does"),
    "portal": (hub.portal, "not as a Hub does; does the network want a login"),
    "wrong bytes": (hub.corrupt, "does not match the sha256 in the manifest, twice; not loaded, kept as"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_in_one_line_in_time_and_leaves_nothing_broken(machine, fault):
    behave, message = FAULTS[fault]
    with hub.serving(CONTENT, behave) as server:
        machine.endpoint = server.url
        outcome = machine.irestore("models", "download", "toy")
    assert outcome.code == 3, outcome.err
    assert re.search(message, outcome.err), outcome.err
    lines = [line for line in outcome.err.splitlines() if line.startswith("irestore: ")]
    errors = [line for line in lines if not line.startswith("irestore: asking ")]
    assert len(errors) == 1
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert outcome.seconds < 10
    assert machine.files() == []
    assert machine.irestore("models", "path", "toy").code == 3


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_a_hub_or_a_filter_that_refuses_is_no_reason_not_to_restore(machine, status):
    code = "import sys; from irestore import weights; known = weights.entries(sys.argv[1:]);"
    code += "found = weights.obtain([weights.find(name, known) for name in ('toy', 'compact-x4')]);"
    code += "print(found.entry.name, found.warning)"
    with hub.serving(CONTENT, hub.status(status)) as server:
        machine.endpoint = server.url
        outcome = machine.python(code, machine.home / "m.toml")
    assert outcome.out.startswith("compact-x4 toy: cannot download"), outcome.err
    assert re.search(f"{status}.*Using the bundled model compact-x4 instead", outcome.out)


def test_a_refused_connection_is_told_in_time(machine):
    outcome = machine.irestore("models", "download", "toy")
    assert outcome.code == 3
    assert re.search(r"cannot reach http://127.0.0.1:9 \(.*refused.*\); check the connection", outcome.err), outcome.err
    assert outcome.seconds < 10
    assert machine.files() == []


def test_a_host_without_a_name_is_told_in_time(machine):
    machine.endpoint = "http://hub.invalid"
    outcome = machine.irestore("models", "download", "toy")
    assert outcome.code == 3
    assert re.search("cannot reach http://hub.invalid|does not answer in time", outcome.err), outcome.err
    assert outcome.seconds < 10


def test_a_dead_proxy_is_named_without_its_password(machine):
    machine.more |= {"HTTP_PROXY": "http://me:secret@127.0.0.1:9", "NO_PROXY": ""}
    machine.endpoint = "http://hub.example"
    outcome = machine.irestore("models", "download", "toy")
    assert outcome.code == 3
    assert "127.0.0.1:9" in outcome.err
    assert "PROXY" in outcome.err
    assert "secret" not in outcome.err
    assert outcome.seconds < 10


def test_a_proxy_is_used(machine):
    with hub.serving(CONTENT) as proxy:
        machine.more |= {"HTTP_PROXY": proxy.url, "NO_PROXY": ""}
        machine.endpoint = "http://hub.example"
        outcome = machine.irestore("models", "download", "toy")
        assert outcome.code == 0, outcome.err
        assert all(path.startswith("http://hub.example/") for _, path, _ in proxy.requests)


def test_a_certificate_that_nobody_trusts_is_told(machine, tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl program to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    make = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", certificate]
    subprocess.run([*make, *subject], check=True, capture_output=True)
    with hub.serving(CONTENT, tls=(certificate, key)) as server:
        machine.endpoint = server.url.replace("127.0.0.1", "localhost")
        outcome = machine.irestore("models", "download", "toy")
    assert outcome.code == 3
    assert re.search("the TLS certificate of https://localhost:.* is not trusted .*SSL_CERT_FILE", outcome.err), (
        outcome.err
    )
    assert outcome.seconds < 10


def test_a_stalled_body_ends_within_its_timeout(machine):
    machine.more["HF_HUB_DOWNLOAD_TIMEOUT"] = "2"
    with hub.serving(CONTENT, hub.stalled) as server:
        machine.endpoint = server.url
        outcome = machine.irestore("models", "download", "toy")
    assert outcome.code == 3
    assert "does not answer in time" in outcome.err
    assert 2 <= outcome.seconds < 8
    assert machine.files() == []


def test_a_large_body_cut_again_and_again_is_given_up(machine, tmp_path):
    manifest(tmp_path / "m.toml", BIG)
    machine.more["HF_HUB_VERBOSITY"] = "error"  # what the client does not log must be stopped too
    with hub.serving(BIG, hub.cut) as server:
        machine.endpoint = server.url
        outcome = machine.irestore("models", "download", "toy")
        assert 1 <= server.downloads <= 4
    assert outcome.code == 3
    assert "was cut before the whole file had come; try again" in outcome.err
    assert outcome.seconds < 10
    assert machine.files() == []


def test_a_body_that_comes_drop_by_drop_is_told_and_then_ended(machine):
    machine.more["HF_HUB_DOWNLOAD_TIMEOUT"] = "7"  # by default 10 s
    with hub.serving(CONTENT, hub.dripping) as server:
        machine.endpoint = server.url
        outcome = machine.irestore("models", "download", "toy")
    assert outcome.code == 3
    assert re.search(r"toy: +0%.*/307k", outcome.err), outcome.err  # before the end, and so within 10 s
    assert re.search(r"does not answer in time \(\d+ bytes within 7 s\)", outcome.err), outcome.err
    assert 7 <= outcome.seconds < 10
    assert machine.files() == []


def test_a_cut_download_goes_on_where_it_was_cut(machine, tmp_path):
    manifest(tmp_path / "m.toml", BIG)
    with hub.serving(BIG, hub.cut_resumable) as server:
        machine.endpoint = server.url
        outcome = machine.irestore("models", "download", "toy")
        assert outcome.code == 0, outcome.err
        assert server.downloads == 3
    assert Path(outcome.out.strip()).read_bytes() == BIG


@pytest.mark.parametrize("command", ["rm", "download"])
def test_a_forged_link_in_the_cache_costs_no_file_outside(machine, tmp_path, command):
    """As another client may have left it, which took the ETag of a hostile mirror for a file name."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    folder = machine.hf / "hub/models--someone--toys/snapshots" / hub.COMMIT / "models"
    folder.mkdir(parents=True)
    (folder / "toy.safetensors").symlink_to("../../../../../../victim")
    with hub.serving(CONTENT) as server:
        machine.endpoint = server.url
        outcome = machine.irestore("models", command, "toy")
    assert outcome.code == 0, outcome.err
    assert victim.read_bytes() == b"precious"
    assert (folder / "toy.safetensors").is_symlink() == (command == "download")
    if command == "download":
        assert (folder / "toy.safetensors").read_bytes() == CONTENT


def test_wrong_bytes_once_are_fetched_again(machine):
    with hub.serving(CONTENT, hub.corrupt_once) as server:
        machine.endpoint = server.url
        outcome = machine.irestore("models", "download", "toy")
        assert outcome.code == 0, outcome.err
        assert Path(outcome.out.strip()).read_bytes() == CONTENT


def test_a_portal_between_head_and_get_is_no_model(machine):
    with hub.serving(CONTENT, hub.portal_body) as server:
        machine.endpoint = server.url
        outcome = machine.irestore("models", "download", "toy")
    assert outcome.code == 3
    assert machine.files() == []


def test_a_rejected_file_is_kept_aside_and_not_in_the_cache(machine):
    with hub.serving(CONTENT, hub.corrupt) as server:
        machine.endpoint = server.url
        outcome = machine.irestore("models", "download", "toy")
    kept = Path(re.search(r"kept as (\S+);", outcome.err)[1])
    assert kept.read_bytes() == CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    assert not kept.is_relative_to(machine.hf)


def test_damage_in_the_cache_is_found_and_mended(machine):
    with hub.serving(CONTENT) as server:
        machine.endpoint = server.url
        path = Path(machine.irestore("models", "download", "toy").out.strip())
        path.resolve().write_bytes(CONTENT[:-1])
        assert machine.irestore("models", "download", "toy").out.strip() == str(path)
        assert path.read_bytes() == CONTENT
        path.resolve().write_bytes(CONTENT[:-1])
    machine.more["HF_HUB_OFFLINE"] = "1"
    offline = machine.irestore("models", "download", "toy")
    assert offline.code == 3
    assert "does not match the sha256 in the manifest; not loaded, kept as" in offline.err
    assert machine.files() == []


def test_the_token_goes_to_the_hub_and_to_no_other_host(machine):
    machine.more["HF_TOKEN"] = "hf_secret"
    with hub.serving(CONTENT) as other, hub.serving(CONTENT, hub.redirect_to(other)) as server:
        machine.endpoint = server.url
        outcome = machine.irestore("models", "download", "toy")
        assert outcome.code == 0, outcome.err
        assert {token for _, path, token in server.requests if "/resolve/" in path} == {"Bearer hf_secret"}
        assert {token for *_, token in other.requests} == {None}
        assert other.downloads == 1


def test_a_repository_that_was_renamed_is_found_at_its_new_address(machine):
    machine.more["HF_TOKEN"] = "hf_secret"
    with hub.serving(CONTENT, hub.moved) as server:
        machine.endpoint = server.url
        outcome = machine.irestore("models", "download", "toy")
        assert outcome.code == 0, outcome.err
        assert {token for _, path, token in server.requests if "/resolve/" in path} == {"Bearer hf_secret"}
    assert Path(outcome.out.strip()).read_bytes() == CONTENT


def test_two_processes_may_download_the_same_file_at_once(machine):
    with hub.serving(CONTENT) as server:
        machine.endpoint = server.url
        started = [machine.start("-m", "irestore", "models", "download", "toy") for _ in range(2)]
        outcomes = [machine.finish(process) for process in started]
    assert [outcome.code for outcome in outcomes] == [0, 0], [outcome.err for outcome in outcomes]
    assert outcomes[0].out == outcomes[1].out
    assert hashlib.sha256(Path(outcomes[0].out.strip()).read_bytes()).digest() == hashlib.sha256(CONTENT).digest()
    assert [path for path in machine.files() if path.suffix == ".part"] == []


def test_offline_makes_no_request(machine):
    with hub.serving(CONTENT) as server:
        machine.endpoint = server.url
        machine.more["HF_HUB_OFFLINE"] = "1"
        outcome = machine.irestore("models", "download", "toy")
        assert outcome.code == 3
        assert "not on this machine, and offline; run `irestore models download toy` while connected" in outcome.err
        assert machine.irestore("models", "list").code == 0
        assert server.requests == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is Linux's")
def test_a_full_disk_is_told_before_it_is_full(machine, small_disk):
    machine.more["HF_HUB_CACHE"] = str(small_disk / "hub")
    with hub.serving(CONTENT) as server:
        machine.endpoint = server.url
        outcome = machine.irestore("models", "download", "toy")
        assert server.downloads == 0
    assert outcome.code == 3
    assert re.search(f"the disk is full at {small_disk}/hub.*make room, or set HF_HUB_CACHE", outcome.err), outcome.err
    assert machine.files("disk") == []


@pytest.mark.skipif(sys.platform == "win32", reason="permissions as POSIX has them")
def test_a_full_quota_is_told(machine):
    """A limit on the size of a file stands in for a quota where no tmpfs can be mounted: EFBIG, as a quota's EDQUOT."""
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
    code += "from irestore.cli import main; sys.exit(main(['models', 'download', 'toy']))"
    with hub.serving(CONTENT) as server:
        machine.endpoint = server.url
        outcome = machine.python(code)
    assert outcome.code == 3, outcome.err
    assert "the disk is full at" in outcome.err
    assert machine.files() == []


def test_a_cache_that_cannot_be_written_is_told(machine, tmp_path):
    """A file where the cache's folder should be: refused to root too, whom permissions do not stop."""
    (tmp_path / "file").write_text("")
    machine.more["HF_HUB_CACHE"] = str(tmp_path / "file" / "hub")
    with hub.serving(CONTENT) as server:
        machine.endpoint = server.url
        outcome = machine.irestore("models", "download", "toy")
    assert outcome.code == 3
    assert re.search("the cache .*file/hub is not writable; set HF_HUB_CACHE", outcome.err), outcome.err


@pytest.mark.skipif(sys.platform != "linux", reason="needs a mount")
def test_a_read_only_cache_serves_and_is_told_when_it_lacks_a_file(machine, tmp_path):
    cache = machine.hf / "hub"
    cache.mkdir(parents=True)
    with hub.serving(CONTENT) as server:
        machine.endpoint = server.url
        with read_only(cache):
            refused = machine.irestore("models", "download", "toy")
        assert refused.code == 3
        assert re.search("the cache .* is not writable; set HF_HUB_CACHE", refused.err), refused.err
        assert machine.irestore("models", "download", "toy").code == 0
        with read_only(cache):
            assert machine.irestore("models", "path", "toy").code == 0
            kept = machine.irestore("models", "rm", "toy")
            assert kept.code == 3
            assert "toy: cannot delete" in kept.err
        manifest(tmp_path / "m.toml", CONTENT[1:])
        with read_only(cache):
            wrong = machine.irestore("models", "download", "toy")
        assert wrong.code == 3
        assert re.search(
            "does not match the sha256 in the manifest; not loaded; toy: cannot delete .*toy.safetensors: ", wrong.err
        ), wrong.err


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder nobody can write to: bind-mounted so for root, whom permissions do not stop, else by its permissions."""
    if os.geteuid():
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
        return
    for options in (["--bind", folder, folder], ["-o", "remount,bind,ro", folder]):
        if subprocess.run(["mount", *options], capture_output=True).returncode:
            pytest.skip("root without the right to mount: nothing is read-only")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_call_is_abandoned_as_soon_as_it_is_too_late():
    """Whatever it waits for: the client's own timeouts are for each address and each read."""
    never = threading.Event()

    def late() -> None:
        raise TimeoutError("too late")

    with pytest.raises(TimeoutError, match="too late"):
        watched(never.wait, late)
    never.set()
    with pytest.raises(OSError, match="told") as raised:
        watched(Path("told").stat, list)
    assert raised.value.errno == errno.ENOENT
    assert watched(lambda: 7, list) == 7
