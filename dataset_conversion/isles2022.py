"""ISLES 2022: acute and subacute ischaemic stroke lesions on MRI, in two published layouts.

    Zenodo release    ISLES-2022/sub-*/ses-*/dwi/*_{dwi,adc}.nii.gz, .../anat/*_FLAIR.nii.gz
                      ISLES-2022/derivatives/sub-*/ses-*/*_msk.nii.gz
    challenge sample  rawdata/sub-*/ses-*/*_{dwi,adc,flair}.nii.gz
                      derivatives/sub-*/ses-*/*_msk.nii.gz

DWI, ADC and the mask share one grid. FLAIR has its own and is not registered to DWI, so it is used only when asked
for, and then resampled to DWI by the two headers. There is no official split: folds are by case.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import SimpleITK as sitk  # noqa: N813

from dataset_conversion.cases import Case, Content
from dataset_conversion.found import Found
from dataset_conversion.image_files import read_volume
from dataset_conversion.masks import mask_of_volume
from dataset_conversion.release import load_release
from dataset_conversion.release_files import list_files, nothing_found
from nnunet_sfma.errors import UserError

RELEASE = load_release("isles2022")


@dataclass(frozen=True)
class Modality:
    """A choice of input: the files that make the channels, and the dataset's name."""

    channels: tuple[str, ...]
    dataset_name: str

    @property
    def channel_names(self) -> dict[str, str]:
        """nnU-Net's channel names by index."""
        return {str(index): channel.upper() for index, channel in enumerate(self.channels)}


MODALITIES = {
    "dwi": Modality(("dwi",), "ISLES2022"),
    "adc": Modality(("adc",), "ISLES2022_ADC"),
    "flair": Modality(("flair",), "ISLES2022_FLAIR"),
    "dwi+adc": Modality(("dwi", "adc"), "ISLES2022_DWI_ADC"),
}


def find(source: Path, modality: str = "dwi") -> Found:
    """The cases of a release, by name; reads no image.

    Args:
        source: the release's folder, in either layout, or the folder that holds it.
        modality: ``dwi``, ``adc``, ``flair`` (resampled to DWI) or ``dwi+adc``.

    Raises:
        UserError: if the modality is unknown or no release is found.
    """
    if modality not in MODALITIES:
        raise UserError(f"'{modality}' is not a modality of ISLES 2022; choose one of {', '.join(MODALITIES)}.")
    chosen = MODALITIES[modality]
    base = _release_folder(Path(source))
    challenge = (base / "rawdata").is_dir()
    images, masks = base / "rawdata" if challenge else base, base / "derivatives"
    found = Found(
        RELEASE,
        Path(source),
        "challenge sample" if challenge else "Zenodo release",
        chosen.dataset_name,
        chosen.channel_names,
        dict(RELEASE.label_maps["lesion"]),
        options={"modality": modality},
    )
    # The mask lies on DWI's grid, so FLAIR needs DWI beside it.
    needed = ("dwi", "flair") if modality == "flair" else chosen.channels
    for session in sorted(_sessions(images) | _sessions(masks)):
        files = _files(images / session, found.problems) | _files(masks / session, found.problems, masks=True)
        absent = [kind for kind in (*needed, "msk") if kind not in files]
        found.problems += [f"{session.parts[0]} has no {_NAMES[kind]}" for kind in absent]
        if not absent:
            found.cases.append(_case(session, files, chosen.channels))
    if modality == "flair":
        found.notes.append(
            "FLAIR has its own grid and is not registered to DWI, in which the lesions were drawn: it is resampled "
            "to DWI's grid by the two headers alone, so lesions may be displaced where the patient moved."
        )
    return found


_NAMES = {"dwi": "DWI", "adc": "ADC", "flair": "FLAIR", "msk": "mask (derivatives/.../*_msk.nii.gz)"}


def _release_folder(source: Path) -> Path:
    """The folder that holds ``derivatives``."""
    folders = {parent for path in list_files(source, RELEASE) for parent in path.parents}
    bases = sorted(folder for folder in folders if folder.is_relative_to(source) and _is_release(folder))
    if not bases:
        raise nothing_found(source, RELEASE)
    if len(bases) > 1:
        names = ", ".join(str(base) for base in bases)
        raise UserError(f"{source} holds several releases ({names}); give one of them.")
    return bases[0]


def _is_release(folder: Path) -> bool:
    has_images = (folder / "rawdata").is_dir() or any(folder.glob("sub-*"))
    return has_images and (folder / "derivatives").is_dir()


def _sessions(folder: Path) -> set[Path]:
    """``sub-*/ses-*`` below a folder; a subject without a session counts, so that it is missed by name."""
    found = set()
    for subject in (path for path in folder.glob("sub-*") if path.is_dir()):
        sessions = [path for path in subject.glob("ses-*") if path.is_dir()] or [subject]
        found |= {session.relative_to(folder) for session in sessions}
    return found


def _files(session: Path, problems: list[str], masks: bool = False) -> dict[str, Path]:
    """NIfTI files of a session by kind: ``dwi``, ``adc``, ``flair``; or ``msk``."""
    pattern = re.compile(r"[^.].*_(msk)\.nii(\.gz)?" if masks else r"[^.].*_(dwi|adc|flair)\.nii(\.gz)?", re.IGNORECASE)
    found = defaultdict(list)
    for path in sorted([*session.glob("*"), *session.glob("*/*")]):
        match = pattern.fullmatch(path.name)
        if match:
            found[match[1].lower()].append(path)
    for kind, paths in found.items():
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            problems.append(f"{session} has several files for {_NAMES[kind]} ({names}); keep one of them")
    return {kind: paths[0] for kind, paths in found.items()}


def _case(session: Path, files: dict[str, Path], channels: tuple[str, ...]) -> Case:
    identifier = session.parts[0].removeprefix("sub-")
    if channels == ("flair",):
        sources = (files["flair"], files["dwi"], files["msk"])
        return Case(identifier, partial(_load_flair, *sources), sources)
    images = tuple(files[channel] for channel in channels)
    return Case(identifier, partial(_load, images, files["msk"]), (*images, files["msk"]))


def _load(images: tuple[Path, ...], mask_path: Path) -> Content:
    mask, notes = mask_of_volume(read_volume(mask_path))
    return Content([read_volume(path) for path in images], mask, notes=notes)


def _load_flair(flair: Path, dwi: Path, mask: Path) -> Content:
    """FLAIR on DWI's grid; 0 outside FLAIR's field of view."""
    image, grid = sitk.Cast(read_volume(flair), sitk.sitkFloat32), read_volume(dwi)
    label, notes = mask_of_volume(read_volume(mask))
    return Content([sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, 0.0)], label, notes=notes)
