"""The base that every converter stands on: checked cases in, a complete nnU-Net raw dataset out, or nothing at all.

A converter describes its cases (:class:`Case`) and calls :func:`write_dataset`, which checks every case and writes it
into a hidden folder beside the final one. The final name appears only when all is written and read back.
"""

import hashlib
import json
import math
import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets

from dataset_conversion.axes import order_of_axes, with_notes_on_axes
from dataset_conversion.cases import Case, Content, Piece
from dataset_conversion.complete import check_complete, write_checksums
from dataset_conversion.image_files import (
    copy_grid,
    describe_grid,
    format_values,
    grid_difference,
    settled_grid,
    write_image,
)
from dataset_conversion.masks import with_whole_numbers
from dataset_conversion.refused import Refused, raise_if_refused
from dataset_conversion.shipped_folds import folds_are_missing, write_folds
from dataset_conversion.whole_folder import all_or_nothing
from nnunet_sfma import __version__
from nnunet_sfma.errors import UserError
from nnunet_sfma.files import sha256
from nnunet_sfma.nnunet_folders import nnunet_folder
from nnunet_sfma.sentences import first_few
from nnunet_sfma.subjects import NAME as SUBJECTS
from nnunet_sfma.workers import in_parallel


def write_dataset(
    dataset_id: int,
    name: str,
    cases: Iterable[Case],
    channel_names: dict[str, str],
    labels: dict[str, int],
    *,
    test_cases: Iterable[Case] = (),
    overwrite: bool = False,
    processes: int = 1,
    provenance: dict | None = None,
    about: dict[str, str] | None = None,
    file_ending: str = ".nii.gz",
    cut: Callable[[Content], Iterable[Piece]] | None = None,
    command: str | None = None,
) -> Path:
    """Check all cases and write them as ``nnUNet_raw/Dataset<id>_<name>``, completely or not at all.

    If the dataset is there already, unchanged and made from the same files with the same options, nothing is done.

    Args:
        dataset_id: 1 to 999.
        name: what follows the id in the folder's name.
        cases: training cases; each needs a label.
        channel_names: nnU-Net's channel names by index, for example ``{"0": "DWI"}``.
        labels: label values by name, for example ``{"background": 0, "lesion": 1}``.
        test_cases: go to imagesTs, and to labelsTs where they have a label.
        overwrite: replace an existing dataset of this id and name once the new one is complete.
        processes: number of worker processes; 1 works in this process.
        provenance: where the data came from and with which options it was converted, for provenance.json.
        about: entries for dataset.json that nnU-Net does not read: ``license``, ``reference``, ``description``, ...
        file_ending: of all images and labels. With ``.png`` a case has one image, whose components are the channels.
        cut: cuts a checked case into several nnU-Net cases, such as slices, or changes its size; picklable.
        command: what the user typed, for provenance.json.

    Returns:
        The dataset's folder.

    Raises:
        UserError: if nnUNet_raw is not usable, the target exists, or a case fails a check; nothing is left behind.
    """
    cases, test_cases = list(cases), list(test_cases)
    options = provenance or {}
    target = _target(dataset_id, name)
    _check_cases(cases, test_cases, target)
    request = _request(cases, test_cases, [options, channel_names, labels, file_ending])
    if os.path.lexists(target) and not overwrite:
        declared = {"channel_names": channel_names, "labels": labels, "file_ending": file_ending}
        check_complete(target, request, declared)
        print(f"{target} is complete, made from these files with these options; nothing to do.")
        if folds_are_missing(target):  # of a data set that an earlier version converted
            print(
                f"It has no folds by subject, and nnU-Net would draw its own by case: run nnunet-sfma splits "
                f"-d {dataset_id} --scheme five-fold."
            )
        return target
    jobs = [(case, "Tr") for case in cases] + [(case, "Ts") for case in test_cases]
    with all_or_nothing(target) as folder:
        spec = _Spec(folder, len(channel_names), frozenset(labels.values()), file_ending, cut)
        written = _write_cases(spec, jobs, processes, target.name)
        n_training = sum(len(case.identifiers) for case in written if case.split == "Tr")
        if not n_training:
            raise UserError(f"None of the training cases has a lesion, so nothing is left to write to {target.name}.")
        _write_dataset_json(folder, target.name, channel_names, labels, n_training, file_ending, about or {})
        _write_provenance(folder, target.name, written, options, request, command)
        write_checksums(folder, {name: digest for each in written for name, digest in each.written.items()})
        on_folds = write_folds(folder, target.name)
        _keep_declared_subjects(target, folder)
    print("\n".join([_closing_message(target, written), *on_folds]))
    return target


@dataclass(frozen=True)
class _Spec:
    """What a worker has to know of the dataset to check and write one case."""

    folder: Path
    n_channels: int
    label_values: frozenset[int]
    file_ending: str
    cut: Callable[[Content], Iterable[Piece]] | None


@dataclass(frozen=True)
class _Written:
    """What a worker tells of a case that it wrote.

    Attributes:
        identifiers: the nnU-Net cases that came of it, several if it was cut.
        empty: those of them whose label is empty.
        foreground: how much is labelled: cubic millimetres, or pixels of a picture; None without a label.
        axes: the order of a volume's axes; None for a picture.
        grid: of the volume that was cut or resized.
        original_size: width and height of the picture that was resized.
        sha256: by source file.
        written: checksums of the files that were written, by path in the data set.
    """

    case: Case
    split: str
    identifiers: list[str]
    empty: list[str]
    foreground: float | None
    axes: str | None
    notes: list[str]
    grid: dict | None
    original_size: tuple[int, int] | None
    sha256: dict[Path, str]
    written: dict[str, str]

    @property
    def empty_label(self) -> bool:
        return self.foreground == 0


# Before anything is written


def _target(dataset_id: int, name: str) -> Path:
    raw = _raw_folder()
    if not 1 <= dataset_id <= 999:
        raise UserError(f"The dataset id {dataset_id} is outside 1 to 999, which is what nnU-Net understands.")
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name, re.ASCII):
        raise UserError(f"'{name}' cannot be a dataset's name; use letters, digits, _ and -.")
    target = raw / f"Dataset{dataset_id:03d}_{name}"
    others = [str(found) for found in find_candidate_datasets(dataset_id) if found != target.name]
    if others:
        raise UserError(
            f"The dataset id {dataset_id} already belongs to {others[0]} (nnU-Net looks into nnUNet_raw, "
            "nnUNet_preprocessed and nnUNet_results); choose another id."
        )
    return target


def _raw_folder() -> Path:
    raw = nnunet_folder("nnUNet_raw").absolute()
    if not raw.is_dir():
        raise UserError(f"nnUNet_raw={raw} is not a folder; create it or correct the environment variable.")
    return raw


def _check_cases(cases: list[Case], test_cases: list[Case], target: Path) -> None:
    if not cases:
        raise UserError(f"There are no training cases to write to {target.name}; check the source folder.")
    counts = Counter(case.identifier for case in cases + test_cases)
    twice = [identifier for identifier, count in counts.items() if count > 1]
    if twice:
        raise UserError(f"The case identifier {twice[0]} occurs more than once; every case needs its own.")
    for case in cases + test_cases:
        if not re.fullmatch(r"\w[\w.-]*", case.identifier, re.ASCII):
            raise UserError(f"'{case.identifier}' cannot name a case; use letters, digits, _, - and '.'.")
        inside = [path for path in case.sources if target.resolve() in path.resolve().parents]
        if inside:
            raise UserError(f"The source {inside[0]} lies inside {target}, which would be replaced; move it elsewhere.")


def _request(cases: list[Case], test_cases: list[Case], options: list) -> str:
    """A checksum of everything a dataset is made from; files count by name, size and time, so that it costs little."""
    described = [
        [case.identifier, split, case.part, case.subject, case.stratum, [_stat(path) for path in case.sources]]
        for split, some in (("Tr", cases), ("Ts", test_cases))
        for case in some
    ]
    text = json.dumps([__version__, options, described], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _stat(path: Path) -> tuple:
    try:
        found = path.stat()
    except OSError:
        return (path.name,)
    return path.name, found.st_size, int(found.st_mtime)


def _count_files(folder: Path) -> dict[str, int]:
    return {sub.name: sum(1 for _ in os.scandir(sub)) for sub in sorted(folder.iterdir()) if sub.is_dir()}


# Cases, one by one


def _write_cases(spec: _Spec, jobs: list[tuple[Case, str]], processes: int, title: str) -> list[_Written]:
    """All cases, in the order of ``jobs``; those that fail a check are named together at the end."""
    for split in {split for _, split in jobs}:
        (spec.folder / f"images{split}").mkdir()
    results = list(in_parallel(_write_case, [(spec, case, split) for case, split in jobs], processes, title))
    raise_if_refused([each for each in results if isinstance(each, Refused)], len(jobs))
    return with_notes_on_axes(results)


def _write_case(spec: _Spec, case: Case, split: str) -> _Written | Refused:
    try:
        content = _checked(case, Content(*case.load()), spec)
        if content.label is None and split == "Tr":
            raise UserError(f"{case} has no label; every training case needs one.")
    except UserError as error:
        return Refused.because(error, case)
    pieces = spec.cut(content) if spec.cut else [Piece("", content.images, content.label)]
    identifiers, empty, paths = [], [], []
    for piece in pieces:
        identifiers.append(f"{case.identifier}{piece.suffix}")
        paths += _write_piece(spec, identifiers[-1], split, piece)
        empty += identifiers[-1:] if piece.label is not None and _is_empty(piece.label) else []
    for kind, extra in content.extras.items():
        paths.append(_made(spec.folder / f"{kind}{split}") / f"{case.identifier}{spec.file_ending}")
        write_image(extra, paths[-1])
    return _Written(
        case,
        split,
        identifiers,
        empty,
        foreground=None if content.label is None else _foreground(content.label),
        axes=order_of_axes(content.images[0]),
        notes=list(content.notes),
        grid=describe_grid(content.images[0]) if spec.cut else None,
        original_size=content.original_size,
        sha256={path: sha256(path) for path in case.sources},
        written={path.relative_to(spec.folder).as_posix(): sha256(path) for path in paths},
    )


def _write_piece(spec: _Spec, identifier: str, split: str, piece: Piece) -> list[Path]:
    """Returns the files that were written."""
    paths = [
        spec.folder / f"images{split}" / f"{identifier}_{index:04d}{spec.file_ending}"
        for index in range(len(piece.images))
    ]
    images = list(piece.images)
    if piece.label is not None:
        paths.append(_made(spec.folder / f"labels{split}") / f"{identifier}{spec.file_ending}")
        images.append(piece.label)
    for image, path in zip(images, paths, strict=True):
        write_image(image, path)
    return paths


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _is_empty(label: sitk.Image) -> bool:
    return not sitk.GetArrayViewFromImage(label).any()


def _foreground(label: sitk.Image) -> float:
    return float(np.count_nonzero(sitk.GetArrayViewFromImage(label))) * math.prod(label.GetSpacing())


def _checked(case: Case, content: Content, spec: _Spec) -> Content:
    images = _checked_images(case, list(content.images), spec.n_channels)
    label = content.label
    if label is not None:
        label = _checked_label(case, label, images[0], spec.label_values)
    extras = {kind: _on_grid(extra, images[0]) for kind, extra in content.extras.items()}
    return content._replace(images=images, label=label, extras=extras)


def _checked_images(case: Case, images: list[sitk.Image], n_channels: int) -> list[sitk.Image]:
    """The images as they are to be written: all on the first one's grid, floats as float32, free of header text."""
    found = sum(image.GetNumberOfComponentsPerPixel() for image in images)
    if found != n_channels:
        raise UserError(f"{case} has {found} channels where the dataset has {n_channels}.")
    for image in images:
        if image.GetDimension() not in (2, 3):
            raise UserError(f"{case} has an image of size {image.GetSize()}; extract a volume with two or three axes.")
        difference = grid_difference(image, images[0])
        if difference:
            raise UserError(f"{case} has channels on different grids ({difference}); resample them to one grid first.")
    grid = settled_grid(images[0]) if images[0].GetDimension() == 3 else images[0]
    prepared = [_on_grid(_narrowed(image), grid) for image in images]
    for index, image in enumerate(prepared):
        bad = int(np.count_nonzero(~np.isfinite(sitk.GetArrayViewFromImage(image))))
        if bad:
            raise UserError(f"{case} has {bad} NaN or infinite voxels in channel {index}; repair or exclude the case.")
        if not sitk.GetArrayViewFromImage(image).any():
            raise UserError(f"{case} has only zeros in channel {index}; replace the file or exclude the case.")
    return prepared


def _checked_label(case: Case, label: sitk.Image, image: sitk.Image, allowed: frozenset[int]) -> sitk.Image:
    """The label as it is to be written: on the image's very grid, in the smallest unsigned type."""
    if label.GetNumberOfComponentsPerPixel() != 1:
        raise UserError(f"{case} has a label with {label.GetNumberOfComponentsPerPixel()} components; it needs one.")
    difference = grid_difference(label, image)
    if difference:
        raise UserError(
            f"{case}: label and image lie on different grids ({difference}); check that they belong together, "
            "or resample the label to the image's grid."
        )
    label = with_whole_numbers(label)
    values = np.unique(sitk.GetArrayViewFromImage(label)).tolist()
    unknown = [value for value in values if value not in allowed]
    if unknown:
        raise UserError(
            f"{case} has the label values {format_values(unknown[:10])}, but only "
            f"{format_values(sorted(allowed))} are declared; "
            "correct the label or exclude the case."
        )
    return _on_grid(sitk.Cast(label, sitk.sitkUInt8 if max(allowed) < 256 else sitk.sitkUInt16), image)


def _narrowed(image: sitk.Image) -> sitk.Image:
    # nnU-Net computes in float32; scaled NIfTI images come out of ITK as float64.
    narrower = {sitk.sitkFloat64: sitk.sitkFloat32, sitk.sitkVectorFloat64: sitk.sitkVectorFloat32}
    return sitk.Cast(image, narrower[image.GetPixelID()]) if image.GetPixelID() in narrower else image


def _on_grid(image: sitk.Image, reference: sitk.Image) -> sitk.Image:
    copy = sitk.Image(image)
    # ITK would write the source's orientation codes and free text, so that two files of one grid could disagree.
    for key in copy.GetMetaDataKeys():
        copy.EraseMetaData(key)
    return copy_grid(copy, reference)


# The dataset's own files


def _write_dataset_json(
    folder: Path, name: str, channel_names: dict, labels: dict, n_training: int, file_ending: str, about: dict
) -> None:
    entries = {"license": "not stated", "converted_by": f"nnunet-sfma {__version__}", **about}
    # Copies, because nnU-Net's function changes its arguments.
    generate_dataset_json(
        str(folder), dict(channel_names), dict(labels), n_training, file_ending, dataset_name=name, **entries
    )


def _keep_declared_subjects(replaced: Path, folder: Path) -> None:
    """The user has written them by hand, and they are of the same cases as a rule; if not, ``splits`` names those."""
    if (replaced / SUBJECTS).is_file():
        shutil.copyfile(replaced / SUBJECTS, folder / SUBJECTS)


def _write_provenance(
    folder: Path, name: str, written: list[_Written], options: dict, request: str, command: str | None
) -> None:
    sources = [path.absolute() for each in written for path in each.sha256]
    root = Path(os.path.commonpath([path.parent for path in sources])) if sources else None
    entries = {
        "dataset": name,
        "converted_by": f"nnunet-sfma {__version__}",
        "versions": {package: version(package) for package in ("nnunetv2", "SimpleITK", "numpy")},
        "options": options,
        "command": command,
        "source_folder": str(root) if root else None,
        "request": request,
        "files": _count_files(folder),
        "cases": {each.case.identifier: _case_entry(each, root) for each in written},
    }
    (folder / "provenance.json").write_text(json.dumps(entries, indent=2, default=str) + "\n", encoding="utf-8")


def _case_entry(written: _Written, root: Path | None) -> dict:
    case = written.case
    entry = {
        "split": written.split,
        "part": case.part,
        "subject": case.subject or case.identifier,
        "stratum": case.stratum,
        "foreground": written.foreground,
        "empty_label": written.empty_label,
        "sha256": {path.absolute().relative_to(root).as_posix(): digest for path, digest in written.sha256.items()},
        "notes": written.notes,
    }
    if written.original_size:
        entry["original_size"] = list(written.original_size)
    if written.grid:
        entry["grid"] = written.grid
    if written.identifiers != [case.identifier]:
        entry["slices"] = written.identifiers
    return entry


def _closing_message(target: Path, written: list[_Written]) -> str:
    count = Counter(split for each in written for split in [each.split] * len(each.identifiers))
    test = f" and {count['Ts']} test" if count["Ts"] else ""
    empty = [identifier for each in written for identifier in each.empty]
    lines = [f"Wrote {count['Tr']} training{test} cases to {target}; {len(empty)} with an empty label{_some(empty)}."]
    left_out = [each.case.identifier for each in written if not each.identifiers]
    if left_out:
        lines.append(f"{len(left_out)} cases have no such slice and were left out{_some(left_out)}.")
    noted = defaultdict(list)
    for each in written:
        for note in each.notes:
            noted[note].append(each.case.identifier)
    return "\n".join(lines + [f"{len(names)} cases{_some(names)}: {note}." for note, names in noted.items()])


def _some(names: list[str]) -> str:
    return f" ({first_few(names)})" if names else ""
