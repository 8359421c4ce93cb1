"""``nnunet-sfma doctor``: one line for each thing that has to be right, with what to do where it is not."""

import contextlib
import io
import json
import os
import pickle
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from nnunet_sfma.nnunet_discovery import FOLDER, VARIABLE, folders
from nnunet_sfma.nnunet_folders import VARIABLES
from nnunet_sfma.sentences import first_line

PACKAGES = ("nnunet-sfma", "nnunetv2", "torch", "timm", "SimpleITK", "numpy")


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, whether it is right, what was seen, what to do."""

    subject: str
    ok: bool
    seen: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at everything: versions, nnU-Net's folders, trainers, GPU and compiler."""
    return [
        *(_package(name) for name in PACKAGES),
        *(_folder(variable) for variable in VARIABLES),
        _discovery(),
        *_guarded("trainers", lambda: [_trainer(name) for name in _trainers()]),
        *_guarded("GPU", lambda: [_gpu()]),
        *_guarded("torch.compile", lambda: [_compile()]),
    ]


def format_findings(findings: list[Finding]) -> str:
    """One line a finding, with the remedy behind it where something is off."""
    width = max(len(finding.subject) for finding in findings)
    return "\n".join(
        f"{'ok ' if finding.ok else 'OFF'}  {finding.subject:<{width}}  {finding.seen}"
        + (f"  ->  {finding.remedy}" if finding.remedy else "")
        for finding in findings
    )


def to_json(findings: list[Finding]) -> str:
    """The findings as a JSON list."""
    return json.dumps([asdict(finding) for finding in findings], indent=2)


def _package(name: str) -> Finding:
    try:
        seen = version(name)
    except PackageNotFoundError:
        return Finding(name, False, "not installed", f"pip install {name}")
    if name == "nnunet-sfma":
        return Finding(name, True, f"{seen}, Python {platform.python_version()}")
    for requirement in map(Requirement, requires("nnunet-sfma")):
        if requirement.name == name and seen not in requirement.specifier:
            return Finding(name, False, seen, f"pip install '{requirement}'")
    return Finding(name, True, seen)


def _folder(variable: str) -> Finding:
    value = os.environ.get(variable)
    if not value:
        return Finding(variable, False, "not set", f"export {variable}=/path/to/a/folder")
    if not Path(value).is_dir():
        return Finding(variable, False, f"{value} does not exist", f"mkdir -p {value}")
    if not os.access(value, os.W_OK):
        return Finding(variable, False, f"{value} is not writable", "choose another folder or change its permissions")
    return Finding(variable, True, value)


def _discovery() -> Finding:
    if FOLDER in folders():
        return Finding(VARIABLE, True, os.environ[VARIABLE])
    return Finding(VARIABLE, False, "does not name this plugin", f"export {VARIABLE}={FOLDER}")


def _trainers() -> list[str]:
    from nnunet_sfma.nnunet_discovery import nnunet_sfma_trainers

    return nnunet_sfma_trainers.__all__


def _trainer(name: str) -> Finding:
    """Twice found, the same and picklable: what worker processes and custom transforms rely on."""
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            found = [recursive_find_trainer_class_by_name(name) for _ in range(2)]
        pickle.dumps(found[0])
    except Exception as error:  # whatever a foreign folder in the variable raises has to become a line
        return Finding(name, False, f"not found: {first_line(error)}", f"reinstall, or export {VARIABLE}={FOLDER}")
    if found[0] is not found[1]:
        return Finding(name, False, "found twice as two classes", f"export {VARIABLE}={FOLDER}")
    return Finding(name, True, f"found in {found[0].__module__}")


def _gpu() -> Finding:
    import torch

    from nnunet_sfma.trainers.recipe import has_bf16

    if not torch.cuda.is_available():
        return Finding("GPU", True, "none", _cpu_advice())
    device = torch.cuda.get_device_properties(0)
    precision = "bf16" if has_bf16(torch.device("cuda", 0)) else "fp16"
    return Finding("GPU", True, f"{device.name}, {device.total_memory / 2**30:.0f} GiB, trains in {precision}")


def _cpu_advice() -> str:
    advice = "train with -device cpu"
    if os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        advice += ", after export OMP_WAIT_POLICY=PASSIVE (threads that spin starve the augmentation workers)"
    return advice


def _compile() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("torch.compile", True, "off without CUDA")
    if os.environ.get("nnUNet_compile", "true").lower() not in ("true", "1", "t"):
        return Finding("torch.compile", True, "off by nnUNet_compile", "unset nnUNet_compile to train faster")
    try:
        torch.compile(torch.nn.ReLU())(torch.zeros(1, device="cuda"))
    except Exception as error:  # a compiler fails in many ways; each is one line here
        return Finding("torch.compile", False, first_line(error), "export nnUNet_compile=f to train without it")
    return Finding("torch.compile", True, "works")


def _guarded(subject: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """The findings of a check that imports other packages; one that is missing or broken is a finding itself."""
    try:
        return check()
    except Exception as error:  # whatever a broken installation raises has to become a line
        return [Finding(subject, False, first_line(error), "pip install --force-reinstall nnunet-sfma")]
