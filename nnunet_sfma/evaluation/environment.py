"""Versions and hardware, for whoever wants to repeat a result."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("nnunet-sfma", "nnunetv2", "torch", "timm", "SimpleITK", "numpy", "scipy")


def versions() -> dict[str, str]:
    """Of Python and the packages that have a say in the numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, str | int | None]:
    """Of the machine that evaluates; that of the training stands with its folds."""
    return {"machine": platform.platform(), "cpu": _cpu(), "cores": os.cpu_count()}


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
