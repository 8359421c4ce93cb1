"""How much of a slice a patch shows: what is called global attention sees the patch alone."""

import math

LITTLE = 0.5


def describe_crop(configuration: dict, original: dict) -> list[str]:
    """Return a sentence if a patch shows less than half of the median slice.

    Args:
        configuration: a 2D configuration of plans.
        original: nnU-Net's own, in whose spacing the median slice is given.
    """
    scales = (old / new for old, new in zip(original["spacing"], configuration["spacing"], strict=True))
    median = [round(side * scale) for side, scale in zip(original["median_image_size_in_voxels"], scales, strict=True)]
    patch = configuration["patch_size"]
    share = math.prod(min(sides) for sides in zip(patch, median, strict=True)) / max(math.prod(median), 1)
    if share >= LITTLE:
        return []
    return [
        f"A patch of {patch[0]} x {patch[1]} is a crop: it shows {share:.0%} of the median slice ({median[0]} x "
        f"{median[1]}), and attention sees no more; nnunet-sfma convert --size resizes whole slices of a release."
    ]
