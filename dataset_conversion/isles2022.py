"""ISLES 2022: acute and subacute ischaemic stroke lesions on MRI, 250 public cases.

Source: Zenodo record 7153326, https://doi.org/10.5281/zenodo.7153326. Citation: Hernandez Petzsche, de la Rosa et al.,
"ISLES 2022: A multi-center magnetic resonance imaging stroke lesion segmentation dataset", Scientific Data 9, 762
(2022). Licence of the data: Creative Commons, CC BY-SA 4.0 according to the challenge's repository; see your download.

Two layouts are published and both are read:

    Zenodo release    ISLES-2022/sub-*/ses-*/dwi/*_{dwi,adc}.nii.gz, .../anat/*_FLAIR.nii.gz
                      ISLES-2022/derivatives/sub-*/ses-*/*_msk.nii.gz
    challenge sample  rawdata/sub-*/ses-*/*_{dwi,adc,flair}.nii.gz
                      derivatives/sub-*/ses-*/*_msk.nii.gz

DWI, ADC and the mask share one grid. FLAIR has its own and is not registered to DWI, so it is used only when asked
for, and then resampled to DWI by the two headers. There is no official split: nnU-Net's five folds are by case.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import SimpleITK as sitk  # noqa: N813

from dataset_conversion.common import Case, Loaded, write_dataset
from dataset_conversion.image_files import read_image
from nnunet_sfma.errors import UserError

N_PUBLIC_CASES = 250
LABELS = {"background": 0, "lesion": 1}
ABOUT = {
    "license": "CC BY-SA 4.0 (as the challenge's repository states)",
    "reference": "https://doi.org/10.5281/zenodo.7153326",
    "description": "ISLES 2022 ischaemic stroke lesions; Hernandez Petzsche et al., Scientific Data 9, 762 (2022)",
}


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


def convert(
    source: Path, dataset_id: int, modality: str = "dwi", *, overwrite: bool = False, processes: int = 1
) -> Path:
    """Write ISLES 2022 as an nnU-Net dataset with the labels background and lesion.

    Args:
        source: the release's folder, in either layout, or the folder that holds it.
        dataset_id: 1 to 999.
        modality: ``dwi``, ``adc``, ``flair`` (resampled to DWI) or ``dwi+adc``.
        overwrite: replace an existing dataset of this id and name.
        processes: number of worker processes.

    Returns:
        The dataset's folder.

    Raises:
        UserError: if no release is found, a case lacks a file, or a check of ``write_dataset`` fails.
    """
    cases = find_cases(source, modality)
    chosen = MODALITIES[modality]
    print(f"Found {len(cases)} of the {N_PUBLIC_CASES} cases of the full ISLES 2022 release in {source}.")
    if modality == "flair":
        print(
            "FLAIR has its own grid and is not registered to DWI, in which the lesions were drawn: it is resampled "
            "to DWI's grid by the two headers alone, so lesions may be displaced where the patient moved."
        )
    return write_dataset(
        dataset_id,
        chosen.dataset_name,
        cases,
        chosen.channel_names,
        LABELS,
        overwrite=overwrite,
        processes=processes,
        provenance={"release": "ISLES 2022", "modality": modality},
        about=ABOUT,
    )


def find_cases(source: Path, modality: str = "dwi") -> list[Case]:
    """The cases of a release, by name; reads no image.

    Raises:
        UserError: if the modality is unknown, no release is found, or a case lacks an image or its mask.
    """
    if modality not in MODALITIES:
        raise UserError(f"'{modality}' is not a modality of ISLES 2022; choose one of {', '.join(MODALITIES)}.")
    images, masks = _release_folders(Path(source))
    sessions = _sessions(images) | _sessions(masks)
    channels = MODALITIES[modality].channels
    # The mask lies on DWI's grid, so FLAIR needs DWI beside it.
    needed = ("dwi", "flair") if channels == ("flair",) else channels
    cases, missing = [], []
    for session in sorted(sessions):
        files = _files(images / session) | _files(masks / session, masks=True)
        absent = [kind for kind in (*needed, "msk") if kind not in files]
        missing += [f"{session.parts[0]} has no {_NAMES[kind]}" for kind in absent]
        if not absent:
            cases.append(_case(session, files, channels))
    if missing:
        raise UserError(_missing_sentence(missing, modality, Path(source)))
    return cases


_NAMES = {"dwi": "DWI", "adc": "ADC", "flair": "FLAIR", "msk": "mask (derivatives/.../*_msk.nii.gz)"}


def _release_folders(source: Path) -> tuple[Path, Path]:
    """The folders with the images' and with the masks' ``sub-*`` folders."""
    if not source.is_dir():
        raise UserError(f"The source {source} is not a folder; give the one with the unpacked ISLES 2022 release.")
    bases = [source] if _is_release(source) else [sub for sub in sorted(source.iterdir()) if _is_release(sub)]
    if not bases:
        raise UserError(
            f"No ISLES 2022 release in {source}: expected a folder derivatives beside sub-* folders (Zenodo) or "
            "beside rawdata (challenge); give the folder that holds them."
        )
    if len(bases) > 1:
        names = ", ".join(base.name for base in bases)
        raise UserError(f"{source} holds several releases ({names}); give one of them.")
    base = bases[0]
    return base / "rawdata" if (base / "rawdata").is_dir() else base, base / "derivatives"


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


def _files(session: Path, masks: bool = False) -> dict[str, Path]:
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
            raise UserError(f"{session} has several files for {_NAMES[kind]} ({names}); keep one of them.")
    return {kind: paths[0] for kind, paths in found.items()}


def _case(session: Path, files: dict[str, Path], channels: tuple[str, ...]) -> Case:
    identifier = session.parts[0].removeprefix("sub-")
    if channels == ("flair",):
        sources = (files["flair"], files["dwi"], files["msk"])
        return Case(identifier, partial(_load_flair, *sources), sources)
    return Case.from_files(identifier, [files[channel] for channel in channels], files["msk"])


def _load_flair(flair: Path, dwi: Path, mask: Path) -> Loaded:
    """FLAIR on DWI's grid; 0 outside FLAIR's field of view."""
    image, grid = sitk.Cast(read_image(flair), sitk.sitkFloat32), read_image(dwi)
    return [sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, 0.0)], read_image(mask)


def _missing_sentence(missing: list[str], modality: str, source: Path) -> str:
    more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
    return (
        f"Cannot convert {source} with modality {modality}: {'; '.join(missing[:10])}{more}; complete the download, "
        "move these cases away, or choose another modality."
    )
