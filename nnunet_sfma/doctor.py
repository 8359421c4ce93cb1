"""``nnunet-sfma doctor``: one line for each thing that has to be right, with what to do where it is not."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from nnunet_sfma.nnunet_discovery import FOLDER, GIVEN, VARIABLE
from nnunet_sfma.nnunet_folders import VARIABLES, expanded
from nnunet_sfma.sentences import first_line, last_line

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
        *_guarded("trainers", _discovery),
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
    if expanded(value) != value:
        remedy = f"export {variable}={shlex.quote(expanded(value))}, as the shell expands neither ~ nor $ in its quotes"
        return Finding(variable, False, f"{value} is no path", remedy)
    if not Path(value).is_dir():
        return Finding(variable, False, f"{value} does not exist", f"mkdir -p {shlex.quote(value)}")
    if os.access(value, os.W_OK):
        return Finding(variable, True, value)
    if variable == "nnUNet_raw":
        return Finding(variable, True, f"{value}, which is read-only: enough for all but convert and splits")
    return Finding(variable, False, f"{value} is not writable", "choose another folder or change its permissions")


def _discovery() -> list[Finding]:
    """What a new Python finds that has this process' environment, less what this package added to it."""
    from nnunet_sfma.nnunet_discovery.nnunet_sfma_trainers import __all__ as names

    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if GIVEN is not None:
        environment[VARIABLE] = GIVEN
    code = Path(__file__).with_name("trainers_found.py").read_text(encoding="utf-8")
    look_up = [sys.executable, "-c", code, *names]
    done = subprocess.run(look_up, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(last_line(done.stderr))
    found = json.loads(done.stdout.splitlines()[-1])
    return [_variable(found["variable"]), *(_trainer(name, seen) for name, seen in found["trainers"].items())]


def _variable(value: str) -> Finding:
    if FOLDER in value.split(os.pathsep):
        return Finding(VARIABLE, True, value)
    return Finding(VARIABLE, False, "does not name this plugin", _export())


def _trainer(name: str, seen: dict[str, str]) -> Finding:
    if "problem" in seen:
        return Finding(name, False, seen["problem"], f"reinstall, or {_export()}")
    return Finding(name, True, f"found in {seen['module']}")


def _export() -> str:
    """The line that points nnU-Net to this plugin and to what the user has named already."""
    theirs = [folder for folder in (GIVEN or "").split(os.pathsep) if folder]
    return f"export {VARIABLE}={shlex.quote(os.pathsep.join(dict.fromkeys([*theirs, FOLDER])))}"


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
