"""Whether a data set is still what its conversion wrote: a second one must not pass over lost or changed files.

The conversion leaves checksums in ``SHA256SUMS``, which ``sha256sum -c`` reads as well. Data sets of earlier versions
have none: of their files only the number and the wholeness can be checked.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from dataset_conversion.image_files import read_image
from dataset_conversion.shipped_folds import folds_are_missing
from nnunet_sfma.errors import UserError
from nnunet_sfma.files import sha256
from nnunet_sfma.json_files import BARE_NAME, read_json
from nnunet_sfma.sentences import first_few
from nnunet_sfma.split_record import SPLITS_FILE
from nnunet_sfma.workers import in_parallel

CHECKSUMS = "SHA256SUMS"
PROVENANCE = {
    "type": "object",
    "required": ["request", "files"],
    "properties": {
        "request": {"type": "string"},
        "files": {
            "type": "object",
            "propertyNames": BARE_NAME,
            "additionalProperties": {"type": "integer", "minimum": 0},
        },
    },
}
MOST_NAMED = 10


def write_checksums(folder: Path, checksums: Mapping[str, str]) -> None:
    """Write the checksums of images and labels, by path in the data set, in the format of ``sha256sum``."""
    lines = [f"{digest}  {name}\n" for name, digest in sorted(checksums.items())]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def check_complete(target: Path, request: str, declared: Mapping[str, object]) -> None:
    """Make sure that a data set is there, made on the same request, and as it was converted.

    Args:
        target: the data set's folder.
        request: what provenance.json has to hold as such.
        declared: entries of dataset.json that have to be there.

    Raises:
        UserError: if it is not; all files at fault are named, up to ten.
    """
    exists = f"{target} already exists; say --overwrite to replace it, or choose another id."
    advice = "say --overwrite to convert again"
    provenance = read_json(target / "provenance.json", PROVENANCE, advice=advice, missing=exists)
    if provenance["request"] != request:
        raise UserError(
            f"{target} already exists, made from other files or with other options; say --overwrite to replace it, or "
            "choose another id."
        )
    faults = _faults_of_dataset_json(target / "dataset.json", declared)
    if (target / CHECKSUMS).is_file():
        faults += [] if faults else _faults_of_folds(target)
        faults += _changed(target, provenance["files"])
    else:
        faults += _damaged(target, provenance["files"])
    if faults:
        raise UserError(
            f"{target} already exists but is not as it was converted ({first_few(faults, MOST_NAMED)}); put that "
            "right, or say --overwrite to convert again."
        )


def _faults_of_dataset_json(path: Path, declared: Mapping[str, object]) -> list[str]:
    try:
        entries = read_json(path, {"type": "object"})
    except UserError:
        return [f"dataset.json is {'damaged' if path.exists() else 'missing'}"]
    return [f"dataset.json has other {key}" for key, value in declared.items() if entries.get(key) != value]


def _faults_of_folds(target: Path) -> list[str]:
    return [f"{SPLITS_FILE} with the folds by subject is missing"] if folds_are_missing(target) else []


def _changed(target: Path, counts: Mapping[str, int]) -> Iterator[str]:
    """Files that are not what the checksums say."""
    lines = (target / CHECKSUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    entries = [re.fullmatch(r"([0-9a-f]{64})  (\w+/[^/\x00]+)", line, re.ASCII) for line in lines]
    if None in entries or len(entries) != sum(counts.values()):
        yield f"{CHECKSUMS} is damaged"
        return
    jobs = [(target / entry[2], entry[1]) for entry in entries]
    for (path, _), why in zip(jobs, in_parallel(_difference, jobs, 1, "Comparing"), strict=True):
        if why:
            yield f"{path.parent.name}/{path.name} {why}"


def _difference(path: Path, digest: str) -> str | None:
    if not path.is_file():
        return "is missing"
    if not path.stat().st_size:
        return "is empty"
    return None if sha256(path) == digest else "was changed"


def _damaged(target: Path, counts: Mapping[str, int]) -> Iterator[str]:
    """Files that cannot be read to their end, and folders that lack files."""
    for folder, count in counts.items():
        inside = sorted((target / folder).iterdir()) if (target / folder).is_dir() else []
        paths = [path for path in inside if not path.name.startswith(".")]  # such as those of file browsers and of NFS
        if len(paths) < count:
            yield f"{folder} holds {len(paths)} of {count} files"
        for path, whole in zip(paths, in_parallel(_is_whole, [(p,) for p in paths], 1, "Reading"), strict=True):
            if not whole:
                yield f"{folder}/{path.name} is {'damaged' if path.stat().st_size else 'empty'}"


def _is_whole(path: Path) -> bool:
    try:
        read_image(path)
    except UserError:
        return False
    return True
