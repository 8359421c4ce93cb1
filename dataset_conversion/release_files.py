"""Finding a release's files in whatever folders a download made of it."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from dataset_conversion.image_files import is_utf8
from dataset_conversion.release import Release, load_release, release_names
from nnunet_sfma.errors import UserError


def list_files(source: Path, release: Release) -> list[Path]:
    """All files below a folder, sorted, through symbolic links; hidden files and those of macOS are left out.

    Raises:
        UserError: if the source is no folder or holds no file.
    """
    source = Path(source)
    if not is_utf8(source):
        raise UserError(f"The name {os.fsencode(source)!r} is not UTF-8: rename that folder.")
    if not source.is_dir():
        raise UserError(f"The source {source} is not a folder; give the one with the unpacked {release.name} release.")
    found = sorted(_walk(source))
    if not found:
        raise UserError(f"The source {source} is empty; give the folder with the unpacked {release.name} release.")
    return found


def nothing_found(source: Path, release: Release) -> UserError:
    """The error for a folder that does not hold the release; names the one that it seems to hold instead."""
    return UserError(f"No {release.title} in {source}: expected {release.expected}{_seems(Path(source), release)}.")


def by_key(paths: Iterable[Path], pattern: str) -> dict[str, list[Path]]:
    """The files whose whole name matches, by the pattern's first group; upper and lower case count the same."""
    expression = re.compile(pattern, re.IGNORECASE)
    found = defaultdict(list)
    for path in paths:
        match = expression.fullmatch(path.name)
        if match:
            found[match[1]].append(path)
    return dict(found)


def only_one(files: Mapping[str, Sequence[Path]], problems: list[str]) -> dict[str, Path]:
    """The file of each key; several files for one key are added to the problems."""
    for key, paths in files.items():
        if len(paths) > 1:
            problems.append(f"{key} has several files ({' and '.join(str(path) for path in paths)}); keep one of them")
    return {key: paths[0] for key, paths in files.items()}


def in_pairs(images: Iterable[str], masks: Iterable[str], problems: list[str]) -> list[str]:
    """The keys with an image and a mask, sorted; what lacks its counterpart is added to the problems."""
    problems += [f"{key} has an image but no mask" for key in sorted(set(images) - set(masks))]
    problems += [f"{key} has a mask but no image" for key in sorted(set(masks) - set(images))]
    return sorted(set(images) & set(masks))


def is_testing(path: Path, source: Path) -> bool:
    """Whether a file is in the part Testing: the nearest folder called Training or Testing, from the source's on."""
    folders = [folder.lower() for folder in (Path(source).resolve().name, *path.relative_to(source).parts[:-1])]
    return [folder for folder in folders if folder in ("training", "testing")][-1:] == ["testing"]


def _walk(folder: Path) -> Iterator[Path]:
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(place)
        identity = (status.st_dev, status.st_ino)
        if identity in seen:
            folders.clear()
            continue
        seen.add(identity)
        if {"dataset.json", "imagesTr"} <= {*names, *folders}:
            # a data set that was converted already, if nnUNet_raw lies below the source
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _seems(source: Path, release: Release) -> str:
    names = {name for path in _walk(source) for name in (source.resolve().name, *path.relative_to(source).parts)}
    for other in map(load_release, release_names()):
        pattern = re.compile(other.typical_file, re.IGNORECASE)
        if other.name != release.name and any(pattern.fullmatch(name) for name in names):
            return f"; this looks like {other.title} (nnunet-sfma convert {other.name})"
    archives = sorted(name for name in names if name.lower().endswith((".zip", ".tar", ".tgz", ".tar.gz", ".7z")))
    return f"; unpack {archives[0]} first" if archives else ""
