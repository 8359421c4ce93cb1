"""nnU-Net finds the trainer with nothing set by the user, from a wheel as from a checkout."""

import os
import pickle
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from nnunet_sfma.nnunet_discovery import FOLDER, VARIABLE
from nnunet_sfma.presets import preset_names

TRAINER = "nnUNetTrainerSFMANet"
TRAINERS = [TRAINER, "nnUNetTrainerDANIE", "nnUNetTrainerDANIE_S", "nnUNetTrainerDANIE_L", "nnUNetTrainerPeer"]
LOOK_UP = f"""
import pickle
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find
first, second = find("{TRAINER}"), find("{TRAINER}")
assert first is second and pickle.loads(pickle.dumps(first)) is first
from nnunet_sfma.presets import preset_names, presets_folder
import dataset_conversion, nnunet_sfma
print("FOUND", nnunet_sfma.__file__, presets_folder(), len(preset_names()))
"""


def python(*arguments: str, executable: str = sys.executable, **environment: str) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if name not in (VARIABLE, "PYTHONPATH")}
    return subprocess.run(
        [executable, *arguments], env={**inherited, **environment}, capture_output=True, text=True, cwd=os.sep
    )


@pytest.mark.parametrize("trainer", TRAINERS)
def test_trainer_is_found_twice_the_same_and_pickles(trainer):
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    first, second = (recursive_find_trainer_class_by_name(trainer) for _ in range(2))
    assert first is second
    assert pickle.loads(pickle.dumps(first)) is first


def test_every_python_announces_the_folder_once_and_keeps_the_users_own():
    result = python("-c", f"import os; print(os.environ['{VARIABLE}'])", **{VARIABLE: "/mine"})
    assert result.stdout.strip() == os.pathsep.join(["/mine", FOLDER])
    again = python("-c", f"import os; print(os.environ['{VARIABLE}'])", **{VARIABLE: result.stdout.strip()})
    assert again.stdout == result.stdout


def test_start_up_and_help_import_nothing_heavy():
    code = "import sys, nnunet_sfma; print(sorted({'torch', 'numpy', 'nnunetv2'} & set(sys.modules)))"
    assert python("-c", code).stdout.strip() == "[]"
    code = (
        "import sys\nfrom nnunet_sfma.cli import main\ntry:\n    main(['--help'])\n"
        "except SystemExit:\n    print(sorted({'torch', 'numpy', 'nnunetv2'} & set(sys.modules)))"
    )
    assert python("-c", code).stdout.strip().endswith("[]")


def test_start_up_line_never_raises(tmp_path: Path):
    line = (Path(sysconfig.get_path("purelib")) / "nnunet_sfma_discovery.pth").read_text()
    (tmp_path / "nnunet_sfma").mkdir()
    (tmp_path / "nnunet_sfma" / "__init__.py").write_text("raise RuntimeError('broken')")
    result = python("-S", "-c", f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; exec({line!r}); print('started')")
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "started", "")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment into which the built wheel is installed, and which sees the other packages."""
    checkout = Path(__file__).resolve().parents[2]
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(checkout)]
    subprocess.run(build, check=True, capture_output=True)
    environment = folder / "environment"
    venv.create(environment, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    # without processing its .pth files, so that an editable install of the checkout stays out of sight
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    wheel = next(folder.glob("*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True, capture_output=True)
    return environment / "bin" / "python"


def test_wheel_is_found_from_any_folder(scratch: Path):
    result = python("-c", LOOK_UP, executable=str(scratch))
    assert result.returncode == 0, result.stderr
    found = [line for line in result.stdout.splitlines() if line.startswith("FOUND")][0].split()
    assert Path(found[1]).is_relative_to(scratch.parent.parent)
    assert Path(found[2]).is_relative_to(scratch.parent.parent)
    assert int(found[3]) == len(preset_names()), "aliases of ablations among them"


def test_misspelled_trainer_is_named():
    code = "from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find; find('{}')"
    result = python("-c", code.format(f"{TRAINER}t"))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f"There is no trainer '{TRAINER}t': did you mean -tr {TRAINER}?"
    assert "Traceback" not in result.stderr
    other = python("-c", code.format("nnUNetTrainerMedNeXt"))
    assert "Could not find requested nnunet trainer nnUNetTrainerMedNeXt" in other.stderr


def test_trainer_signatures_are_nnunets():
    import inspect

    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from nnunet_sfma.trainers.nnUNetTrainerSFMANet import nnUNetTrainerSFMANet

    for name in ("__init__", "build_network_architecture"):
        ours, theirs = (inspect.signature(getattr(c, name)) for c in (nnUNetTrainerSFMANet, nnUNetTrainer))
        assert list(ours.parameters) == list(theirs.parameters)
