"""The base that every converter stands on: checked cases in, a complete nnU-Net raw dataset out, or nothing at all.

A converter describes its cases (:class:`Case`) and calls :func:`write_dataset`, which checks every case and writes it
into a hidden folder beside the final one. The final name appears only when all is written and read back.
"""

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets
from tqdm import tqdm

from dataset_conversion.image_files import (
    copy_grid,
    format_values,
    grid_difference,
    read_image,
    settled_grid,
    write_image,
)
from nnunet_sfma import __version__
from nnunet_sfma.errors import UserError
from nnunet_sfma.nnunet_folders import nnunet_folder

Loaded = tuple[Sequence[sitk.Image], sitk.Image | None]


@dataclass(frozen=True)
class Case:
    """One patient, scan or picture, loaded only when it is written.

    Args:
        identifier: the case's name in the dataset: letters, digits, ``_``, ``-`` and ``.``.
        load: returns the channel images, in the order of the channel names, and the label (None: no label). It runs
            in the worker that writes the case, so it has to be picklable (a ``functools.partial`` of a module's
            function is) when more than one process is asked for.
        sources: the files that ``load`` reads, for provenance and for messages; empty for generated cases.
    """

    identifier: str
    load: Callable[[], Loaded]
    sources: tuple[Path, ...] = ()

    @classmethod
    def from_files(cls, identifier: str, images: Sequence[Path], label: Path | None = None) -> "Case":
        """A case that is read from one file for each channel and a label file, as they are."""
        files = (*images, label) if label else tuple(images)
        return cls(identifier, partial(_load_files, tuple(images), label), files)

    def __str__(self) -> str:
        names = ", ".join(path.name for path in self.sources)
        return f"Case {self.identifier}" + (f" ({names})" if names else "")


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
) -> Path:
    """Check all cases and write them as ``nnUNet_raw/Dataset<id>_<name>``, completely or not at all.

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

    Returns:
        The dataset's folder.

    Raises:
        UserError: if nnUNet_raw is not usable, the target exists, or a case fails a check; nothing is left behind.
    """
    cases, test_cases = list(cases), list(test_cases)
    target = _target(dataset_id, name, overwrite)
    _check_cases(cases, test_cases, target)
    jobs = [(case, "Tr") for case in cases] + [(case, "Ts") for case in test_cases]
    with _all_or_nothing(target) as folder:
        spec = _Spec(folder, len(channel_names), frozenset(labels.values()), file_ending)
        written = _write_cases(spec, jobs, processes, target.name)
        _write_dataset_json(folder, target.name, channel_names, labels, len(cases), file_ending, about or {})
        _write_provenance(folder, target.name, written, provenance or {})
    print(_closing_sentence(target, len(cases), len(test_cases), written))
    return target


@dataclass(frozen=True)
class _Spec:
    """What a worker has to know of the dataset to check and write one case."""

    folder: Path
    n_channels: int
    label_values: frozenset[int]
    file_ending: str


@dataclass(frozen=True)
class _Written:
    """What a worker tells of a case that it wrote; ``sha256`` by source file."""

    identifier: str
    split: str
    empty_label: bool
    sha256: dict[Path, str]


# Before anything is written


def _target(dataset_id: int, name: str, overwrite: bool) -> Path:
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
    if os.path.lexists(target) and not overwrite:
        raise UserError(f"{target} already exists; say --overwrite to replace it, or choose another id.")
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


@contextmanager
def _all_or_nothing(target: Path) -> Iterator[Path]:
    """A hidden folder that becomes the target if the block succeeds and vanishes if it does not.

    Its fixed name also keeps two conversions from writing one dataset at a time; nnU-Net does not see it.
    """
    folder = target.with_name(f".{target.name}.unfinished")
    try:
        folder.mkdir()
    except FileExistsError as error:
        raise UserError(
            f"{folder} exists: another conversion is writing this dataset, or one was killed; "
            "in that case remove that folder and convert again."
        ) from error
    except OSError as error:
        raise UserError(f"nnUNet_raw={target.parent} is not writable ({error.strerror}); choose another.") from error
    try:
        yield folder
        _publish(folder, target)
    except OSError as error:
        _discard(folder)
        raise UserError(
            f"{target} could not be written ({error}); free space or choose another nnUNet_raw; nothing is left of it."
        ) from error
    except BaseException:
        _discard(folder)
        raise


def _discard(folder: Path) -> None:
    with _undisturbed():
        shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, target: Path) -> None:
    if not os.path.lexists(target):
        folder.rename(target)
        return
    replaced = folder.with_name(f".{target.name}.replaced")
    target.rename(replaced)
    try:
        folder.rename(target)
    except BaseException:
        replaced.rename(target)
        raise
    if replaced.is_dir() and not replaced.is_symlink():
        shutil.rmtree(replaced, ignore_errors=True)
    else:
        replaced.unlink()


# Cases, one by one


def _write_cases(spec: _Spec, jobs: list[tuple[Case, str]], processes: int, title: str) -> list[_Written]:
    """All cases, in the order of ``jobs``."""
    for kind in ("images", "labels"):
        for split in {split for _, split in jobs}:
            (spec.folder / f"{kind}{split}").mkdir()
    results = _write_parallel(spec, jobs, processes) if processes > 1 else _write_serial(spec, jobs)
    with closing(results), tqdm(results, total=len(jobs), desc=title, unit="case", disable=None) as bar:
        written = list(bar)
    labels_ts = spec.folder / "labelsTs"
    if labels_ts.is_dir() and not any(labels_ts.iterdir()):
        labels_ts.rmdir()
    return written


def _write_serial(spec: _Spec, jobs: list[tuple[Case, str]]) -> Generator[_Written, None, None]:
    for case, split in jobs:
        yield _write_case(spec, case, split)


def _write_parallel(spec: _Spec, jobs: list[tuple[Case, str]], processes: int) -> Generator[_Written, None, None]:
    # A UserError is a SystemExit: it would end a worker of multiprocessing.Pool, and the pool would wait for ever.
    executor = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))
    try:
        # Ctrl-C reaches all processes of a terminal; workers inherit that they are to leave it to their parent.
        with _undisturbed():
            futures = [executor.submit(_write_case, spec, case, split) for case, split in jobs]
        for future in futures:
            yield future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "A worker process ended unexpectedly, most likely for lack of memory; convert again with fewer processes."
        ) from error
    finally:
        # Workers have to be at rest before their folder can be removed; a shutdown that is interrupted hangs for ever.
        with _undisturbed():
            executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C in the block, so that an impatient second one cannot stop the tidying up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _write_case(spec: _Spec, case: Case, split: str) -> _Written:
    images, label = case.load()
    images = _checked_images(case, list(images), spec.n_channels)
    for index, image in enumerate(images):
        write_image(image, spec.folder / f"images{split}" / f"{case.identifier}_{index:04d}{spec.file_ending}")
    if label is not None:
        label = _checked_label(case, label, images[0], spec.label_values)
        write_image(label, spec.folder / f"labels{split}" / f"{case.identifier}{spec.file_ending}")
    elif split == "Tr":
        raise UserError(f"{case} has no label; every training case needs one.")
    empty = label is not None and not sitk.GetArrayViewFromImage(label).any()
    return _Written(case.identifier, split, empty, {path: _sha256(path) for path in case.sources})


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


def _load_files(images: tuple[Path, ...], label: Path | None) -> Loaded:
    return [read_image(path) for path in images], read_image(label) if label else None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(partial(file.read, 2**20), b""):
            digest.update(block)
    return digest.hexdigest()


# The dataset's own files


def _write_dataset_json(
    folder: Path, name: str, channel_names: dict, labels: dict, n_training: int, file_ending: str, about: dict
) -> None:
    entries = {"license": "not stated", "converted_by": f"nnunet-sfma {__version__}", **about}
    # Copies, because nnU-Net's function changes its arguments.
    generate_dataset_json(
        str(folder), dict(channel_names), dict(labels), n_training, file_ending, dataset_name=name, **entries
    )


def _write_provenance(folder: Path, name: str, written: list[_Written], options: dict) -> None:
    sources = [path.absolute() for case in written for path in case.sha256]
    root = Path(os.path.commonpath([path.parent for path in sources])) if sources else None
    cases = {
        case.identifier: {
            "split": case.split,
            "empty_label": case.empty_label,
            "sha256": {path.absolute().relative_to(root).as_posix(): digest for path, digest in case.sha256.items()},
        }
        for case in written
    }
    entries = {
        "dataset": name,
        "converted_by": f"nnunet-sfma {__version__}",
        "versions": {package: version(package) for package in ("nnunetv2", "SimpleITK", "numpy")},
        "options": options,
        "source_folder": str(root) if root else None,
        "cases": cases,
    }
    (folder / "provenance.json").write_text(json.dumps(entries, indent=2, default=str) + "\n", encoding="utf-8")


def _closing_sentence(target: Path, n_training: int, n_test: int, written: list[_Written]) -> str:
    empty = [case.identifier for case in written if case.empty_label]
    named = f" ({', '.join(empty[:5])}{', ...' if len(empty) > 5 else ''})" if empty else ""
    test = f" and {n_test} test" if n_test else ""
    return f"Wrote {n_training} training{test} cases to {target}; {len(empty)} with an empty label{named}."
