"""ISIC 2018 Task 1: skin lesions in dermoscopy.

    ISIC2018_Task1-2_{Training,Validation,Test}_Input/ISIC_XXXXXXX.jpg
    ISIC2018_Task1_{Training,Validation,Test}_GroundTruth/ISIC_XXXXXXX_segmentation.png

The paper's scheme divides the 2594 training images alone; the challenge's validation and test images go to imagesTs.
"""

from pathlib import Path

from dataset_conversion.found import Found
from dataset_conversion.isic import Challenge, find_challenge
from dataset_conversion.release import load_release

CHALLENGE = Challenge(
    load_release("isic2018"),
    "ISIC2018",
    r"ISIC2018_Task1-2_(Training|Validation|Test)_Input",
    r"ISIC2018_Task1_(Training|Validation|Test)_GroundTruth",
    ("Training",),
)


def find(source: Path, size: int = 256) -> Found:
    """The photographs of ISIC 2018; see :func:`dataset_conversion.isic.find_challenge`."""
    return find_challenge(CHALLENGE, source, size)
