"""``nnunet-sfma weights``: what is cached, fetching from a hub, checking a local file."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file

from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError

SMALL, LARGE = (f"timm/maxvit_{size}_tf_224.in1k" for size in ("tiny", "small"))
CONTENT = b"the weights"


class Hub(BaseHTTPRequestHandler):
    """Answers as the Hugging Face hub does for one file of one model."""

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()
        self.wfile.write(CONTENT)

    def _answer(self):
        found = self.path == f"/{SMALL}/resolve/main/model.safetensors"
        self.send_response(200 if found else 404)
        self.send_header("ETag", '"1234"')
        self.send_header("X-Repo-Commit", "abcd")
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def weights(tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Run the command in a process of its own: the hub's library reads its variables once."""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1", **variables}
    command = [sys.executable, "-m", "nnunet_sfma.cli", "weights", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_fetched_once_then_cached(tmp_path, hub):
    before = json.loads(weights(tmp_path, "--json").stdout)
    assert {entry["name"]: entry["cached"] for entry in before} == {SMALL: None, LARGE: None}
    fetched = weights(tmp_path, "--fetch", "--preset", "danie-s", HF_ENDPOINT=hub)
    assert fetched.returncode == 0, fetched.stderr
    assert f"{SMALL}: cached" in fetched.stdout
    offline = json.loads(weights(tmp_path, "--fetch", "--preset", "danie-s", "--json", HF_HUB_OFFLINE="1").stdout)
    assert Path(offline[0]["cached"]).read_bytes() == CONTENT
    assert offline[0]["presets"] == ["danie-s"]


def test_hub_that_never_comes_to_an_end_is_given_up(tmp_path):
    dribbling = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=dribble, args=(dribbling,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{dribbling.getsockname()[1]}"
    result = weights(tmp_path, "--fetch", "--preset", "danie-s", HF_ENDPOINT=endpoint)
    assert result.returncode == 1
    assert "cannot be fetched (no answer within 12 s)" in result.stderr.splitlines()[-1]


def dribble(server: socket.socket) -> None:
    """Answer with one header line a second, for as long as somebody listens."""
    connection, _ = server.accept()
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(90):
        try:
            connection.sendall(b"X-Line-%d: 1\r\n" % number)
        except OSError:
            return
        time.sleep(1)


def test_hub_that_lacks_the_file_is_named_in_one_sentence(tmp_path, hub):
    result = weights(tmp_path, "--fetch", "--preset", "danie-l", HF_ENDPOINT=hub)
    assert result.returncode == 1
    assert f"The weights {LARGE} are not in the cache" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(timm.create_model("maxvit_tiny_tf_224").state_dict(), path)
    return path


def test_local_file_is_checked_against_window_and_channels(file, capsys):
    main(["weights", "--check", str(file), "--preset", "danie-s", "--patch", "200", "320", "--channels", "1"])
    assert "fits danie-s: position tables for an image of 224 x 320, first convolution for 1 channel." in (
        capsys.readouterr().out
    )
    main(["weights", "--check", str(file), "--preset", "danie-s", "--json"])
    assert json.loads(capsys.readouterr().out)["image_size"] == [256, 256]


@pytest.mark.parametrize("arguments", [["--channels", "0"], ["--patch", "0", "8"]])
def test_impossible_images_are_refused(file, arguments):
    with pytest.raises(UserError, match="take numbers from 1 on"):
        main(["weights", "--check", str(file), "--preset", "danie-s", *arguments])
    with pytest.raises(UserError, match="for what --check FILE checks"):
        main(["weights", *arguments])


@pytest.mark.parametrize(
    "preset, sentence",
    [
        ("danie-l", r"tiny.safetensors cannot be loaded: it is not the maxvit_small_tf_224 of these sizes"),
        ("danie-narrow", r"cannot be loaded: .*\(its stem.\S+ has the shape"),
        ("danie-a2-no-self-attention", "it has no MaxViT to take them"),
        ("sfmanet", "No published weights fit this SFMANet"),
        ("danie-x", "did you mean"),
    ],
)
def test_file_of_another_model_is_refused(file, preset, sentence):
    with pytest.raises(UserError, match=sentence):
        main(["weights", "--check", str(file), "--preset", preset])
