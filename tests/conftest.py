"""The tests run beside other programs, and also in the background of a script."""

import os
import signal

import pytest

from irestore.processors import processors

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command has it; before torch is loaded
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # of `-n auto`, which share the processors
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, processors() // int(workers))))
# A run that a script starts in the background ignores Ctrl-C, and under nohup a closed terminal; here both do what they
# do on a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """In this process too, nothing of the tester's own."""
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "LOCALAPPDATA", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in [name for name in os.environ if name.startswith("IRESTORE_MODEL") or name == "IRESTORE_MANIFEST"]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("irestore.weights.hub.cache", lambda: tmp_path / "hub")
