"""A stub of CUDA, with which PyTorch's CUDA build takes this machine for one with cards."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SOURCES = Path(__file__).parent / "cuda_stub"


def run_on_cards(script: Path, *arguments: str, cards: str, folder: Path) -> str:
    """Run a Python script in a process of its own that sees CUDA cards; returns the last line that it prints.

    Nothing runs on the cards and nothing fits into them: the script uses fake tensors.

    Args:
        script: to run.
        arguments: of the script.
        cards: the compute capability of each, such as "90 89".
        folder: for the built stub.
    """
    headers = _headers()
    if torch.version.cuda is None or headers is None or shutil.which("gcc") is None or sys.platform != "linux":
        pytest.skip("needs PyTorch's CUDA build with Triton, and gcc")
    exported = folder / "exported"
    exported.write_text(f"libcudart.so.{torch.version.cuda.split('.')[0]} {{ global: cuda*; }};\n")
    runtime = folder / "cudart.so"
    _compile(SOURCES / "cudart.c", runtime, "-I", str(headers), f"-Wl,--version-script={exported}")
    _compile(SOURCES / "driver.c", folder / "libcuda.so.1", "-Wl,-soname,libcuda.so.1")
    stub = {"LD_PRELOAD": str(runtime), "LD_LIBRARY_PATH": str(folder), "CAPABILITIES": cards}
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, *arguments],
        env=os.environ | stub | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def _headers() -> Path | None:
    """CUDA's headers, which PyTorch's compiler Triton brings along."""
    try:
        import triton
    except ImportError:
        return None
    folder = Path(triton.__file__).parent / "backends" / "nvidia" / "include"
    return folder if (folder / "crt" / "host_defines.h").is_file() else None


def _compile(source: Path, library: Path, *options: str) -> None:
    subprocess.run(["gcc", "-shared", "-fPIC", *options, str(source), "-o", str(library)], check=True)
