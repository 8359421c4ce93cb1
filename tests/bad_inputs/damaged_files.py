"""Every file that a command reads, damaged in five ways."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bad_inputs.commands import COMMANDS, MODEL, RELEASES
from tests.dataset_conversion.releases import TREES

PREPROCESSED = "nnUNet_preprocessed/Dataset001_Plain"
RAW_DATA = "nnUNet_raw/Dataset001_Plain"
RESULTS = f"nnUNet_results/Dataset001_Plain/{MODEL}"
NOTES = "nnUNet_results/Dataset001_Plain/crossval"
CHECK, DRAW = "splits -d 1 --check", "splits -d 1 --scheme five-fold --seed 7 --overwrite"
PLAN = f"plan {COMMANDS['plan']}"
FOLDER = "evaluate -i {root}/predictions -l {root}/labels -np 1"
CROSSVAL, PREDICT, EVALUATE, EXPLAIN, COMPARE, REPORT, STACK = (
    f"{command} {COMMANDS[command]}"
    for command in ("crossval", "predict", "evaluate", "explain", "compare", "report", "stack")
)
UNTOLD = CROSSVAL.replace("--folds 0", "--folds 1")
"""Of a fold whose checkpoint cannot tell on what it was trained, so that the notes beside it count."""
CONVERT = {dataset: f"convert {dataset} {COMMANDS[f'convert {dataset}']}" for dataset in RELEASES}

JSON_FILES = {
    f"{RAW_DATA}/dataset.json": (CHECK,),
    f"{RAW_DATA}/subjects.json": (CHECK, EVALUATE),
    f"{PREPROCESSED}/splits_final.json": (CHECK, EVALUATE, CROSSVAL),
    f"{PREPROCESSED}/split_record.json": (CHECK, EVALUATE),
    f"{PREPROCESSED}/nnUNetPlans.json": (PLAN,),
    f"{PREPROCESSED}/tiny.json": (CROSSVAL, f"{CROSSVAL} --seeds 1"),
    f"{PREPROCESSED}/dataset.json": (PLAN, CROSSVAL),
    f"{RESULTS}/plans.json": (EVALUATE, PREDICT, EXPLAIN),
    f"{RESULTS}/dataset.json": (EVALUATE, PREDICT, EXPLAIN),
    f"{RESULTS}/evaluation/evaluation.json": (COMPARE, REPORT),
    f"{RESULTS}/evaluation/explain/explain.json": (REPORT,),
    f"{NOTES}/{MODEL}.split.json": (UNTOLD,),
    f"{NOTES}/{MODEL}.plans.json": (UNTOLD,),
    f"{NOTES}/{MODEL}.slurm.json": ("status -d 1 --cancel",),
    "predictions/dataset.json": (FOLDER,),
    "predictions/plans.json": (FOLDER,),
    "predicted/nnunet_sfma_prediction.json": (PREDICT,),
    "nnUNet_raw/Dataset004*/provenance.json": (STACK, "splits -d 4 --scheme five-fold"),
}
OTHER_FILES = {
    f"{RESULTS}/fold_0/checkpoint_final.pth": (EVALUATE, EXPLAIN, PREDICT),
    f"{RAW_DATA}/imagesTr/case_0_0000.nii.gz": (EXPLAIN,),
    "predictions/*.nii.gz": (FOLDER,),
    "labels/*.nii.gz": (FOLDER,),
    "weights.pth": ("weights --check {root}/weights.pth",),
    "nnUNet_raw/Dataset004*/labelsTr/*.nii.gz": (STACK,),
    **{
        f"releases/{release}/**/{file}": (CONVERT[dataset],)
        for dataset, release in RELEASES.items()
        for file in (TREES[release].image, TREES[release].mask)
    },
}


def _cut(content: bytes) -> bytes:
    return content[: random.Random(len(content)).randrange(1, len(content) - 1)]


def _other_type(content: bytes) -> bytes:
    return b'["a text"]' if content.lstrip()[:1] == b"{" else b'{"a": 1}'


def _deep(content: bytes) -> bytes:
    return b"[" * 100_000 + b"]" * 100_000


JSON_DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": _cut,
    "null": lambda content: b"null",
    "of another type": _other_type,
    "deeply nested": _deep,
}
OTHER_DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "empty": lambda content: b"",
    "cut": _cut,
    "null": lambda content: bytes(len(content)),
    "of another type": lambda content: json.dumps({"some": "text"}).encode(),
    "a folder": lambda content: None,
}


def damaged_files() -> Iterator[tuple[str, str, Callable, str]]:
    """A name, the file (a pattern below the kitchen), what damages it, and the command that reads it."""
    for files, damages in ((JSON_FILES, JSON_DAMAGE), (OTHER_FILES, OTHER_DAMAGE)):
        for file, commands in files.items():
            for command in commands:
                for name, damage in damages.items():
                    yield f"{command.split()[0]} {Path(file).name} {name}", file, damage, command


def replace(path: Path, content: bytes | None) -> None:
    """Give a file another content; None puts a folder into its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
