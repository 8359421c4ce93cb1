"""ACDC: cine MRI of the heart at end diastole (ED) and end systole (ES).

    training/patient001..100/Info.cfg, patientXXX_4d.nii.gz, patientXXX_frameNN.nii.gz, patientXXX_frameNN_gt.nii.gz
    testing/patient101..150, the same, in some copies without ground truth

``Info.cfg`` tells which frames are ED and ES (ED is not always frame 1) and the disease group. Both frames are cases of
one subject. In the released headers the sform often has unit spacing where pixdim and qform have the true one: then
spacing and orientation are those of pixdim and qform, and the case is noted. A ground truth whose header disagrees with
its image's lies on the same voxels all the same: it gets the image's grid, and the case is noted.
"""

import re
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813

from dataset_conversion.cases import Case, Content
from dataset_conversion.found import Found
from dataset_conversion.image_files import copy_grid, grid_difference, read_volume
from dataset_conversion.release import load_release
from dataset_conversion.release_files import by_key, list_files, nothing_found, only_one
from dataset_conversion.whole_images import prepare_volumes
from nnunet_sfma.errors import UserError

RELEASE = load_release("acdc")
FIRST_TEST_PATIENT = 101
WRONG_SFORM = "the sform's scales disagree with pixdim; spacing from pixdim, orientation from the qform if there is one"
OTHER_QFORM = "sform and qform disagree on where the image lies; read as SimpleITK does"
OTHER_GRID = "image and ground truth disagree in the header; the image's grid is used for both"


def find(source: Path, size: int = 0) -> Found:
    """The ED and ES frames of all patients; reads ``Info.cfg`` but no image.

    Args:
        source: the folder with the patients, or one that holds it.
        size: sides in voxels that whole slices are resized to; 0 keeps the full resolution.

    Raises:
        UserError: if no release is found or the size is out of range.
    """
    files = list_files(source, RELEASE)
    found = Found(RELEASE, Path(source), "database", "ACDC", {"0": "cineMRI"}, dict(RELEASE.label_maps["heart"]))
    prepare_volumes(found, size)
    frames = only_one(by_key(files, r"(patient\d{3}_frame\d{2})\.nii(?:\.gz)?"), found.problems)
    truths = only_one(by_key(files, r"(patient\d{3}_frame\d{2})_gt\.nii(?:\.gz)?"), found.problems)
    if not frames and not truths:
        raise nothing_found(source, RELEASE)
    infos = _infos(files, found)
    named = {frame.split("_")[0] for frame in (*frames, *truths)}
    for patient in sorted(named | set(infos)):
        _add_patient(patient, frames, truths, infos.get(patient), found)
    return found


def _add_patient(
    patient: str, frames: dict[str, Path], truths: dict[str, Path], info: dict[str, str] | None, found: Found
) -> None:
    part = "Training" if int(patient[-3:]) < FIRST_TEST_PATIENT else "Testing"
    if info is None:
        wanted = sorted(frame for frame in truths if frame.startswith(patient))
        found.problems += [] if wanted else [f"{patient} has neither Info.cfg nor a ground truth"]
    else:
        wanted = [f"{patient}_frame{int(info[phase]):02d}" for phase in ("ED", "ES")]
    needs_truth = part == "Training" or any(frame in truths for frame in wanted)
    for frame in wanted:
        if frame not in frames:
            found.problems.append(f"{frame} has no image")
        elif frame not in truths and needs_truth:
            found.problems.append(f"{frame} has no ground truth")
        else:
            truth = truths.get(frame)
            sources = (frames[frame], truth) if truth else (frames[frame],)
            case = Case(frame, partial(_load, *sources), sources, part, patient, (info or {}).get("Group"))
            (found.cases if part == "Training" else found.test_cases).append(case)


def _infos(files: list[Path], found: Found) -> dict[str, dict[str, str]]:
    """The entries of each patient's ``Info.cfg``; one that lacks ED or ES is a problem."""
    infos = {}
    for path in files:
        if path.name.lower() != "info.cfg" or not re.fullmatch(r"patient\d{3}", path.parent.name) or not path.is_file():
            continue
        lines = (line.partition(":") for line in path.read_text(errors="replace").splitlines())
        entries = {key.strip(): value.strip() for key, colon, value in lines if colon}
        if entries.get("ED", "").isdecimal() and entries.get("ES", "").isdecimal():
            infos[path.parent.name] = entries
        else:
            found.problems.append(f"{path} does not tell the frames ED and ES")
    return infos


def _load(image_path: Path, truth_path: Path | None = None) -> Content:
    image, notes = _read(image_path)
    if truth_path is None:
        return Content([image], None, notes=notes)
    truth, more = _read(truth_path)
    if truth.GetSize() != image.GetSize():
        raise UserError(
            f"The ground truth {truth_path} has size {truth.GetSize()} but its image has {image.GetSize()}; "
            "replace the wrong one or exclude the case."
        )
    if grid_difference(truth, image):
        more = [*more, OTHER_GRID]
    return Content([image], copy_grid(truth, image), notes=sorted({*notes, *more}))


def _read(path: Path) -> tuple[sitk.Image, list[str]]:
    """The image with the grid of pixdim and qform where the sform contradicts them, and a note of that."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = read_volume(path)
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    header = nibabel.load(path).header
    sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    if sform is None or np.allclose(np.linalg.norm(sform[:3, :3], axis=0), header.get_zooms()[:3], rtol=1e-3):
        agree = sform is None or qform is None or np.allclose(sform, qform, atol=1e-2)
        return image, [] if agree else [OTHER_QFORM]
    if qform is not None:
        # NIfTI's axes point right, anterior, superior; ITK's left, posterior, superior.
        to_itk = np.diag([-1.0, -1.0, 1.0])
        image.SetDirection((to_itk @ qform[:3, :3] / image.GetSpacing()).ravel())
        image.SetOrigin(to_itk @ qform[:3, 3])
    return image, [WRONG_SFORM]
