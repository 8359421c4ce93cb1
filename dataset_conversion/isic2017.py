"""ISIC 2017 Task 1: skin lesions in dermoscopy, with a validation and a test set of its own.

    ISIC-2017_{Training,Validation,Test_v2}_Data/ISIC_XXXXXXX.jpg
    ISIC-2017_{Training,Validation,Test_v2}_Part1_GroundTruth/ISIC_XXXXXXX_segmentation.png

Training and validation images go to imagesTr, because the paper's scheme validates on the latter; test images to
imagesTs.
"""

from pathlib import Path

from dataset_conversion.found import Found
from dataset_conversion.isic import Challenge, find_challenge
from dataset_conversion.release import load_release

CHALLENGE = Challenge(
    load_release("isic2017"),
    "ISIC2017",
    r"ISIC-2017_(Training|Validation|Test(?:_v2)?)_Data",
    r"ISIC-2017_(Training|Validation|Test(?:_v2)?)_Part1_GroundTruth",
    ("Training", "Validation"),
)


def find(source: Path, size: int = 256) -> Found:
    """The photographs of ISIC 2017; see :func:`dataset_conversion.isic.find_challenge`."""
    return find_challenge(CHALLENGE, source, size)
