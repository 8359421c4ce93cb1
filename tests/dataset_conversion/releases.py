"""Tiny releases of all seven data sets: the official folders, names, headers and oddities around noise.

Every ``build_*`` function makes a release below a folder and returns what a user would give as SRC. ``TREES`` names one
of each layout for the tests that hold for all of them.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813
from PIL import Image

TILT = math.radians(20)
OBLIQUE = (1.0, 0.0, 0.0, 0.0, math.cos(TILT), -math.sin(TILT), 0.0, math.sin(TILT), math.cos(TILT))
FLIPPED = (-1.0, 0.0, 0.0, 0.0, -math.cos(TILT), math.sin(TILT), 0.0, math.sin(TILT), math.cos(TILT))
"""X and Y run the other way than the scanner's, and the bed is tilted."""

SIZE = (10, 12, 6)
PICTURE = (40, 30)
"""Columns and rows, as Pillow tells a picture's size."""


# Volumes and pictures


def volume(
    array: np.ndarray | None = None,
    *,
    seed: int = 0,
    size: Sequence[int] = SIZE,
    spacing: Sequence[float] = (0.9, 1.1, 2.5),
    direction: Sequence[float] = OBLIQUE,
) -> sitk.Image:
    """A volume on the oblique grid, from an array in (z, y, x) or float32 noise from a seed."""
    if array is None:
        array = np.random.default_rng(seed).normal(100, 20, size[::-1]).astype(np.float32)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((-110.25, 80.5, -52.75))
    image.SetDirection(direction)
    return image


def mask(*, empty: bool = False, value: int = 1, size: Sequence[int] = SIZE, lesion: int = 0, **grid) -> sitk.Image:
    """A uint16 mask of one box on the same grid; ``lesion`` moves it, so that several do not overlap."""
    array = np.zeros(size[::-1], np.uint16)
    if not empty:
        array[1:3, 2 + 3 * lesion : 4 + 3 * lesion, 2:5] = value
    return volume(array, **grid)


def write(image: sitk.Image, path: Path) -> Path:
    """Write an image, and its folders if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def picture(seed: int, size: tuple[int, int] = PICTURE) -> Image.Image:
    """Coloured noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def picture_mask(size: tuple[int, int] = PICTURE, value: int = 255) -> Image.Image:
    """A box of one value on 0."""
    array = np.zeros((size[1], size[0]), np.uint8)
    array[size[1] // 4 : size[1] // 2, size[0] // 4 : size[0] // 2] = value
    return Image.fromarray(array)


def save(image: Image.Image, path: Path) -> Path:
    """Save a picture, and its folders if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
    return path


# ATLAS


def build_atlas_r1_1(base: Path, scans: Sequence[str] = ("031768/t01", "031769/t01"), lesions: int = 2) -> Path:
    """R1.1; the second mask of a scan is 255, the first 1."""
    root = base / "ATLAS_R1.1"
    for number, scan in enumerate(scans):
        subject = scan.split("/")[0]
        folder = root / f"Site{number + 1}" / scan
        _write_atlas(folder, f"{subject}_t1w_deface_stx", f"{subject}_LesionSmooth", number, lesions)
    (root / "ATLAS_Meta-Data_Release_1.1_standard_mni.csv").write_text("INDI Site ID,INDI Subject ID\n")
    return root


def build_atlas_r1_2(
    base: Path, scans: Sequence[str] = ("c0001s0004t01", "c0010s0005t01", "c0010s0005t02"), lesions: int = 2
) -> Path:
    """R1.2 as its archives unpack; a subject was scanned twice."""
    root = base / "ATLAS R 1.2" / "standard_MNI"
    for number, scan in enumerate(scans):
        folder = root / f"standard_part{1 + number % 2}" / scan[:5] / scan
        _write_atlas(folder, f"{scan}_t1w_stx", f"{scan}_LesionSmooth", number, lesions)
    return root


def _write_atlas(folder: Path, image: str, lesion: str, seed: int, lesions: int) -> None:
    write(volume(seed=seed), folder / f"{image}.nii.gz")
    for index in range(lesions):
        name = f"{lesion}_{index}_stx.nii.gz" if index else f"{lesion}_stx.nii.gz"
        write(mask(lesion=index, value=255 if index else 1), folder / name)


def build_atlas_r2_0(
    base: Path,
    training: Sequence[str] = ("sub-r001s001", "sub-r001s002", "sub-r009s001"),
    testing: Sequence[str] = ("sub-r003s001",),
) -> Path:
    """R2.0: Training with a mask, Testing without."""
    root = base / "ATLAS_2"
    for number, subject in enumerate([*training, *testing]):
        part = "Training" if subject in training else "Testing"
        stem = f"{subject}_ses-1_space-MNI152NLin2009aSym"
        folder = root / part / subject[4:8].upper() / subject / "ses-1" / "anat"
        write(volume(seed=number), folder / f"{stem}_T1w.nii.gz")
        (folder / f"{stem}_T1w.json").write_text("{}")
        if part == "Training":
            write(mask(), folder / f"{stem}_label-L_desc-T1lesion_mask.nii.gz")
    (root / "dataset_description.json").write_text("{}")
    return root


# ISLES 2022


def build_isles(
    base: Path,
    layout: str = "zenodo",
    n: int = 2,
    *,
    ending: str = ".nii.gz",
    upper: bool = False,
    flair: bool = True,
    size: Sequence[int] = SIZE,
) -> Path:
    """Either layout with ``n`` cases; FLAIR lies on a finer, thicker grid, as in the real one."""
    root = base / ("ISLES-2022" if layout == "zenodo" else "dataset-ISLES22")
    for number in range(1, n + 1):
        subject, session = f"sub-strokecase{number:04d}", "ses-0001"
        images = root / subject / session if layout == "zenodo" else root / "rawdata" / subject / session
        volumes = {"dwi": volume(seed=number, size=size), "adc": volume(seed=100 + number, size=size)}
        if flair:
            volumes["flair"] = volume(seed=200 + number, size=(20, 24, 3), spacing=(0.45, 0.55, 5.0))
        for kind, image in volumes.items():
            folder = images / ("anat" if kind == "flair" else "dwi") if layout == "zenodo" else images
            suffix = kind.upper() if upper or (layout == "zenodo" and kind == "flair") else kind
            write(image, folder / f"{subject}_{session}_{suffix}{ending}")
        write(mask(size=size), root / "derivatives" / subject / session / f"{subject}_{session}_msk{ending}")
    return root


def build_isles_challenge(base: Path) -> Path:
    """The challenge's layout."""
    return build_isles(base, "challenge")


# Synapse


def build_synapse(base: Path, training: Sequence[int] = (1, 2, 40), testing: Sequence[int] = (61,)) -> Path:
    """CT in Hounsfield units with all 14 label values, on a flipped and tilted grid."""
    root = base / "RawData"
    for number in (*training, *testing):
        part = root / ("Training" if number in training else "Testing")
        units = np.random.default_rng(number).integers(-1000, 1500, SIZE[::-1], dtype=np.int16)
        write(volume(units, direction=FLIPPED), part / "img" / f"img{number:04d}.nii.gz")
        if number in training:
            write(synapse_label(number), part / "label" / f"label{number:04d}.nii.gz")
    return root


def synapse_label(seed: int) -> sitk.Image:
    """All of 0 to 13 in random order, so that no two scans and no two axes look alike."""
    values = np.random.default_rng(seed).permutation(np.arange(math.prod(SIZE), dtype=np.uint8) % 14)
    return volume(values.reshape(SIZE[::-1]), direction=FLIPPED)


# ACDC

ACDC_AFFINE = np.array(
    [[-1.5625, 0.0, 0.0, 120.5], [0.0, -1.25, -5.0, 80.25], [0.0, -0.9375, 6.66666667, -30.75], [0.0, 0.0, 0.0, 1.0]]
)
"""Right-handed up to NIfTI's qfac, with spacing 1.5625, 1.5625, 8.3333."""


@dataclass(frozen=True)
class Patient:
    """Frames and disease group of a patient, as Info.cfg has them."""

    ed: int
    es: int
    group: str = "NOR"
    ground_truth: bool = True
    info: bool = True


ACDC_PATIENTS = {
    1: Patient(1, 12, "DCM"),
    90: Patient(4, 11, "MINF"),
    101: Patient(1, 14, "DCM"),
    102: Patient(1, 13, "NOR", ground_truth=False),
}


def build_acdc(base: Path, patients: dict[int, Patient] | None = None, line_end: str = "\n") -> Path:
    """Training patients up to 100 and testing patients from 101 on."""
    root = base / "database"
    for number, patient in (ACDC_PATIENTS if patients is None else patients).items():
        name = f"patient{number:03d}"
        folder = root / ("training" if number <= 100 else "testing") / name
        folder.mkdir(parents=True)
        if patient.info:
            info = [f"ED: {patient.ed}", f"ES: {patient.es}", f"Group: {patient.group}", "Height: 184.0", "NbFrame: 30"]
            (folder / "Info.cfg").write_bytes(line_end.join([*info, "Weight: 95.0", ""]).encode())
        write(sitk.Image([4, 4, 2, 3], sitk.sitkInt16), folder / f"{name}_4d.nii.gz")
        for frame in (patient.ed, patient.es):
            write_nifti(acdc_image(number, frame), folder / f"{name}_frame{frame:02d}.nii.gz")
            if patient.ground_truth:
                write_nifti(acdc_truth(), folder / f"{name}_frame{frame:02d}_gt.nii.gz")
    (root / "MANDATORY_CITATION.md").write_text("Bernard et al.\n")
    return root


def acdc_image(number: int, frame: int) -> np.ndarray:
    """Voxels in NIfTI's order (x, y, z)."""
    return np.random.default_rng([number, frame]).integers(1, 400, SIZE, dtype=np.int16)


def acdc_truth() -> np.ndarray:
    """Voxels with all four values, in NIfTI's order (x, y, z)."""
    truth = np.zeros(SIZE, np.uint8)
    truth[1:8, 2:8, 1:5] = 2
    truth[3:6, 4:6, 1:5] = 3
    truth[1:4, 8:10, 2:4] = 1
    return truth


def write_nifti(
    array: np.ndarray,
    path: Path,
    qform: np.ndarray | None = ACDC_AFFINE,
    sform: np.ndarray | None = ACDC_AFFINE,
    sform_code: int = 1,
) -> Path:
    """Write NIfTI with a qform and an sform of their own; None leaves one out. pixdim is the qform's."""
    image = nibabel.Nifti1Image(array, None)
    spacing = np.linalg.norm((ACDC_AFFINE if qform is None else qform)[:3, :3], axis=0)
    image.header.set_zooms(spacing)
    image.header.set_qform(qform, code=0 if qform is None else 1)
    image.header.set_sform(sform, code=0 if sform is None else sform_code)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, None, image.header), path)
    return path


# ISIC


def build_isic2017(base: Path, n: int = 2) -> Path:
    """All three parts, with superpixels and tables among the photographs."""
    root = base / "ISIC2017"
    for number, part in enumerate(["Training", "Validation", "Test_v2"]):
        images, masks = root / f"ISIC-2017_{part}_Data", root / f"ISIC-2017_{part}_Part1_GroundTruth"
        for index in range(n):
            name = f"ISIC_{1000 * number + index:07d}"
            _save_isic(images, masks, name, 10 * number + index)
            save(picture(99), images / f"{name}_superpixels.png")
        (images / f"ISIC-2017_{part}_Data_metadata.csv").write_text("image_id,age_approximate,sex\n")
    return root


def build_isic2018(base: Path, n: int = 2) -> Path:
    """All three parts, with licence and attribution among the photographs."""
    root = base / "ISIC2018"
    for number, part in enumerate(["Training", "Validation", "Test"]):
        images, masks = root / f"ISIC2018_Task1-2_{part}_Input", root / f"ISIC2018_Task1_{part}_GroundTruth"
        for index in range(n):
            _save_isic(images, masks, f"ISIC_{1000 * number + index:07d}", 10 * number + index)
        for folder in (images, masks):
            (folder / "LICENSE.txt").write_text("see the challenge\n")
            (folder / "ATTRIBUTION.txt").write_text("see the challenge\n")
    return root


def _save_isic(images: Path, masks: Path, name: str, seed: int) -> None:
    save(picture(seed), images / f"{name}.jpg")
    save(picture_mask(), masks / f"{name}_segmentation.png")


# GlaS

GLAS_GRADES = {
    "train_1": ("5", "malignant", "moderately differentiated"),
    "train_2": ("5", "malignant", "moderately differentiated"),
    "train_10": ("12", "benign", "healthy"),
    "testA_1": ("4", "benign", "adenomatous"),
    "testB_1": ("7", "malignant", "poorly differentiated"),
}


def build_glas(base: Path, grades: str | None = "short") -> Path:
    """All three parts; ``grades``: the columns of Grade.csv, ``short``, ``original``, or None for no such file."""
    root = base / "Warwick QU Dataset (Released 2016_07_08)"
    for number, name in enumerate(GLAS_GRADES):
        save(picture(number), root / f"{name}.bmp")
        save(glas_annotation(), root / f"{name}_anno.bmp")
    if grades:
        (root / "Grade.csv").write_text(glas_table(grades))
    return root


def glas_annotation(size: tuple[int, int] = PICTURE) -> Image.Image:
    """Three glands, of which two touch, numbered 1, 2 and 200."""
    array = np.zeros((size[1], size[0]), np.uint8)
    array[5:15, 5:12], array[5:15, 12:20], array[20:28, 25:35] = 1, 2, 200
    return Image.fromarray(array)


def glas_table(columns: str) -> str:
    """Grade.csv with the blanks that the released file has after its commas."""
    if columns == "short":
        lines = [f"{patient},{name}, {grade}" for name, (patient, grade, _) in GLAS_GRADES.items()]
        return "\n".join(["patient ID,name,grade", *lines, ""])
    lines = [f"{name}, {patient}, {grade}, {finer}" for name, (patient, grade, finer) in GLAS_GRADES.items()]
    return "\n".join(["name,patient ID,grade (GlaS),grade (Sirinukunwattana et al. 2015)", *lines, ""])


# All of them


@dataclass(frozen=True)
class Tree:
    """One layout, and where its files are for tests that spoil one of them.

    Attributes:
        dataset: name of the converter.
        layout: as a dry run names it.
        image: file name of one case's image.
        mask: file name of the same case's mask.
        case: that case's identifier.
        training: identifiers that belong to imagesTr.
        testing: identifiers that belong to imagesTs.
        labels: the official label names and values.
        options: arguments that a test needs so that it is quick.
    """

    dataset: str
    build: Callable[[Path], Path]
    layout: str
    image: str
    mask: str
    case: str
    training: tuple[str, ...]
    testing: tuple[str, ...] = ()
    labels: dict[str, int] = field(default_factory=lambda: {"background": 0, "lesion": 1})
    options: tuple[str, ...] = ()

    @property
    def is_volume(self) -> bool:
        """Whether the files are NIfTI; pictures otherwise."""
        return self.image.endswith(".nii.gz")

    def image_in(self, root: Path) -> Path:
        """The file ``image`` in a release."""
        return one(root, self.image)

    def mask_in(self, root: Path) -> Path:
        """The file ``mask`` in a release."""
        return one(root, self.mask)


def one(folder: Path, pattern: str) -> Path:
    """The only file below a folder that matches."""
    (found,) = folder.rglob(pattern)
    return found


def voxels(path: Path) -> np.ndarray:
    """The array of an image file, in (z, y, x) or (rows, columns)."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def names(folder: Path) -> list[str]:
    """The sorted names of what lies in a folder; none if it is not there."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def move(source: Path, target: Path) -> Path:
    """Move a folder or file to a new place, which need not have folders yet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(source, target))


ISIC_TRAINING = ("ISIC_0000000", "ISIC_0000001")
ISIC_VALIDATION = ("ISIC_0001000", "ISIC_0001001")
ISIC_TEST = ("ISIC_0002000", "ISIC_0002001")
TREES = {
    "atlas-r1.1": Tree(
        "atlas",
        lambda base: build_atlas_r1_1(base, lesions=1),
        "R1.1",
        "031768_t1w_deface_stx.nii.gz",
        "031768_LesionSmooth_stx.nii.gz",
        "031768_t01",
        ("031768_t01", "031769_t01"),
    ),
    "atlas-r1.2": Tree(
        "atlas",
        lambda base: build_atlas_r1_2(base, lesions=1),
        "R1.2",
        "c0001s0004t01_t1w_stx.nii.gz",
        "c0001s0004t01_LesionSmooth_stx.nii.gz",
        "c0001s0004t01",
        ("c0001s0004t01", "c0010s0005t01", "c0010s0005t02"),
    ),
    "atlas-r2.0": Tree(
        "atlas",
        build_atlas_r2_0,
        "R2.0",
        "sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz",
        "sub-r001s001_ses-1_space-MNI152NLin2009aSym_label-L_desc-T1lesion_mask.nii.gz",
        "r001s001_ses-1",
        ("r001s001_ses-1", "r001s002_ses-1", "r009s001_ses-1"),
        ("r003s001_ses-1",),
    ),
    "isles-zenodo": Tree(
        "isles2022",
        build_isles,
        "Zenodo release",
        "sub-strokecase0001_ses-0001_dwi.nii.gz",
        "sub-strokecase0001_ses-0001_msk.nii.gz",
        "strokecase0001",
        ("strokecase0001", "strokecase0002"),
    ),
    "isles-challenge": Tree(
        "isles2022",
        build_isles_challenge,
        "challenge sample",
        "sub-strokecase0001_ses-0001_dwi.nii.gz",
        "sub-strokecase0001_ses-0001_msk.nii.gz",
        "strokecase0001",
        ("strokecase0001", "strokecase0002"),
    ),
    "synapse": Tree(
        "synapse",
        build_synapse,
        "RawData",
        "img0001.nii.gz",
        "label0001.nii.gz",
        "case0001",
        ("case0001", "case0002", "case0040"),
        ("case0061",),
        {
            "background": 0,
            "aorta": 1,
            "gallbladder": 2,
            "left kidney": 3,
            "right kidney": 4,
            "liver": 5,
            "pancreas": 6,
            "spleen": 7,
            "stomach": 8,
        },
    ),
    "acdc": Tree(
        "acdc",
        build_acdc,
        "database",
        "patient090_frame04.nii.gz",
        "patient090_frame04_gt.nii.gz",
        "patient090_frame04",
        ("patient001_frame01", "patient001_frame12", "patient090_frame04", "patient090_frame11"),
        ("patient101_frame01", "patient101_frame14", "patient102_frame01", "patient102_frame13"),
        {"background": 0, "RV": 1, "MYO": 2, "LV": 3},
    ),
    "isic2017": Tree(
        "isic2017",
        build_isic2017,
        "official folders",
        "ISIC_0000000.jpg",
        "ISIC_0000000_segmentation.png",
        "ISIC_0000000",
        (*ISIC_TRAINING, *ISIC_VALIDATION),
        ISIC_TEST,
        options=("--size", "32"),
    ),
    "isic2018": Tree(
        "isic2018",
        build_isic2018,
        "official folders",
        "ISIC_0000000.jpg",
        "ISIC_0000000_segmentation.png",
        "ISIC_0000000",
        ISIC_TRAINING,
        (*ISIC_VALIDATION, *ISIC_TEST),
        options=("--size", "32"),
    ),
    "glas": Tree(
        "glas",
        build_glas,
        "Warwick QU",
        "train_1.bmp",
        "train_1_anno.bmp",
        "train_1",
        ("train_1", "train_10", "train_2"),
        ("testA_1", "testB_1"),
        {"background": 0, "gland": 1},
    ),
}
