"""A seeded stroke-MRI phantom: diffusion-like brain volumes with lesions, and the mask a rater would draw.

Healthy structures (cortical rim, skull-base artefact, periventricular caps, in some cases the ventricles) reach the
lesions' intensities, so that no threshold separates them; shape and location do.

Arrays are (Z, Y, X) = (12, 96, 96): slices from inferior to superior, rows from anterior to posterior, columns from the
patient's right to left (LPS). Head coordinates are in millimetres, ``head[0]`` is z, ``head[1]`` is y, ``head[2]`` is
x, with x = 0 in the plane between the hemispheres. Intensities are relative to grey matter = 1 up to the scanner.
"""

import numpy as np
import SimpleITK as sitk  # noqa: N813
from scipy.ndimage import distance_transform_edt, gaussian_filter, label
from scipy.spatial.transform import Rotation

SHAPE = (12, 96, 96)
SPACING_ZYX = (6.0, 2.0, 2.0)
"""Millimetres: 5 mm slices with a gap of 1 mm."""

NO_LESION_PROBABILITY = 0.1
LESION_RADIUS = {"small": (3.0, 5.0), "medium": (10.0, 16.0), "territory": (17.0, 26.0)}
"""Millimetres, before the outline is made irregular."""


def stroke_phantom(seed: int, index: int) -> tuple[sitk.Image, sitk.Image]:
    """Case `index` of the phantom with this `seed`, always the same whatever other cases are made.

    Returns the image (float32, skull-stripped: 0 outside the brain, above 0 inside, arbitrary scale) and the lesion
    mask (uint8 in {0, 1}, empty in about one case of ten), both 96 x 96 x 12 voxels of 2 x 2 x 6 mm on one oblique
    grid.
    Raises ValueError if `seed` or `index` is negative.
    """
    rng = np.random.default_rng([seed, index])
    head = _head_coordinates(rng)
    brain = _brain_outline(rng, head)
    depth = distance_transform_edt(brain, sampling=SPACING_ZYX)
    ventricles = _ventricles(rng, head)
    tissue = _tissue(rng, head, depth, ventricles)
    tissue = _distractors(rng, tissue, head, depth, ventricles)
    tissue, mask = _lesions(rng, tissue, head, depth, ventricles)
    image = _scanner(rng, tissue) * brain
    return _on_oblique_grid(rng, image.astype(np.float32), mask.astype(np.uint8))


def _smooth_noise(rng: np.random.Generator, scale: float) -> np.ndarray:
    """Gaussian random field (Z, Y, X) of zero mean and unit variance, smooth over `scale` millimetres."""
    sigma = [scale / spacing for spacing in SPACING_ZYX]
    noise = gaussian_filter(rng.standard_normal(SHAPE), sigma, mode="wrap")
    return (noise - noise.mean()) / noise.std()


def _soft_step(x: np.ndarray) -> np.ndarray:
    """From 0 to 1, through 0.5 at x = 0."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _ellipsoid(head: np.ndarray, centre: tuple[float, ...], axes: tuple[float, ...], edge: float = 0.1) -> np.ndarray:
    """(Z, Y, X) in [0, 1]: a soft ellipsoid per hemisphere; centre, axes (z, y, |x|) in millimetres, edge relative."""
    z, y, x = head
    offsets = (z - centre[0], y - centre[1], np.abs(x) - centre[2])
    radius = np.sqrt(sum((offset / axis) ** 2 for offset, axis in zip(offsets, axes, strict=True)))
    return _soft_step((1.0 - radius) / edge)


def _head_coordinates(rng: np.random.Generator) -> np.ndarray:
    """(3, Z, Y, X) in millimetres: z = 0 at the basal ganglia, x = 0 on the midline; the head is a little turned."""
    centre = ((SHAPE[0] - 1) * 0.32, (SHAPE[1] - 1) / 2, (SHAPE[2] - 1) / 2)
    grid = np.indices(SHAPE, dtype=np.float64)
    z, y, x = (
        (axis - middle) * spacing + shift
        for axis, middle, spacing, shift in zip(grid, centre, SPACING_ZYX, rng.uniform(-3.0, 3.0, 3), strict=True)
    )
    angle = np.deg2rad(rng.uniform(-6.0, 6.0))
    return np.stack([z, np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x])


def _brain_outline(rng: np.random.Generator, head: np.ndarray) -> np.ndarray:
    """(Z, Y, X) bool: an egg, wider behind, notched between the hemispheres, with an irregular border."""
    z, y, x = head
    height, length, width = rng.uniform((60.0, 80.0, 62.0), (66.0, 86.0, 67.0))
    width = width * (1.0 + 0.08 * y / length)
    radius = (np.abs(x / width) ** 2.2 + np.abs(y / length) ** 2.2 + np.abs(z / height) ** 2.2) ** (1 / 2.2)
    notch = 0.07 * np.exp(-((x / 4.0) ** 2)) * np.clip(np.abs(y) / length, 0.0, 1.0)
    border = 0.018 * _smooth_noise(rng, 7.0) + 0.012 * _smooth_noise(rng, 3.0)
    inside = radius + notch + border < 1.0
    parts, count = label(inside)
    return parts == 1 + np.argmax(np.bincount(parts.ravel(), minlength=count + 1)[1:])


def _ventricles(rng: np.random.Generator, head: np.ndarray) -> np.ndarray:
    """(Z, Y, X) fraction of ventricle in [0, 1]: two curved lateral ventricles and the slit of the third."""
    z, y, x = head
    width, top = rng.uniform((4.0, 18.0), (8.0, 26.0))
    bend = 4.0 + width + 0.006 * (y + 5.0) ** 2
    uneven = 0.10 * _smooth_noise(rng, 8.0)
    lateral = np.sqrt(((np.abs(x) - bend) / width) ** 2 + ((y - 2.0) / 40.0) ** 2 + ((z - 10.0) / top) ** 2)
    third = _ellipsoid(head, (-4.0, 5.0, 0.0), (12.0, 14.0, 0.35 * width), edge=0.3)
    return np.maximum(_soft_step((1.0 - lateral - uneven) / 0.08), third)


def _tissue(rng: np.random.Generator, head: np.ndarray, depth: np.ndarray, ventricles: np.ndarray) -> np.ndarray:
    """(Z, Y, X) healthy intensity: folded cortex with sulci, white matter, deep grey nuclei and fluid."""
    white, fluid = rng.uniform((0.62, 0.12), (0.74, 0.30))
    folds = np.abs(_smooth_noise(rng, 4.0))
    near_surface = _soft_step((17.0 - depth) / 2.0)
    cortex = np.maximum(_soft_step((4.5 - depth) / 0.7), near_surface * _soft_step((0.60 - folds) / 0.06))
    sulci = near_surface * _soft_step((0.18 - folds) / 0.04)
    fissure = np.exp(-((head[2] / 1.6) ** 2)) * _soft_step((28.0 - depth) / 3.0)
    grey = np.maximum(cortex, _deep_grey(head))
    tissue = white + (1.0 - white) * grey + 0.03 * _smooth_noise(rng, 3.0)
    tissue += (fluid - tissue) * 0.85 * np.maximum(sulci, fissure)
    # Fluid is dark on diffusion and FLAIR images, bright where T2 shines through.
    ventricle_level = rng.uniform(1.05, 1.35) if rng.random() < 0.35 else fluid
    tissue += (ventricle_level - tissue) * ventricles
    return gaussian_filter(tissue, (0.0, 0.45, 0.45))


def _deep_grey(head: np.ndarray) -> np.ndarray:
    """(Z, Y, X) fraction in [0, 1]: head of the caudate, putamen, thalamus."""
    caudate = _ellipsoid(head, (4.0, -24.0, 17.0), (14.0, 9.0, 5.0))
    putamen = _ellipsoid(head, (-2.0, -6.0, 28.0), (12.0, 15.0, 5.5))
    thalamus = _ellipsoid(head, (0.0, 14.0, 12.0), (11.0, 11.0, 8.0))
    return np.maximum(np.maximum(caudate, putamen), thalamus)


def _distractors(
    rng: np.random.Generator, tissue: np.ndarray, head: np.ndarray, depth: np.ndarray, ventricles: np.ndarray
) -> np.ndarray:
    """Tissue (Z, Y, X) with what is bright but healthy: patches of cortical rim, skull-base artefact, horn caps."""
    rim, base, caps = rng.uniform((0.15, 0.25, 1.0), (0.45, 0.6, 1.4))
    patches = _soft_step((_smooth_noise(rng, 12.0) - 0.4) / 0.2)
    bright = rim * patches * _soft_step((4.5 - depth) / 0.6)
    frontal = _ellipsoid(head, (-24.0, -66.0, 12.0), (14.0, 12.0, 14.0), edge=0.25)
    temporal = _ellipsoid(head, (-26.0, 6.0, 56.0), (16.0, 20.0, 9.0), edge=0.25)
    bright += base * np.maximum(frontal, temporal)
    around = gaussian_filter(ventricles, [2.5 / spacing for spacing in SPACING_ZYX]) * (1.0 - ventricles)
    horns = 2.0 * around * _soft_step((np.abs(head[1]) - 18.0) / 3.0)
    return np.maximum(tissue * (1.0 + bright), caps * horns)


def _lesions(
    rng: np.random.Generator, tissue: np.ndarray, head: np.ndarray, depth: np.ndarray, ventricles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tissue (Z, Y, X) with its lesions, and their mask (bool): where any lesion's soft profile reaches one half."""
    mask = np.zeros(SHAPE, dtype=bool)
    if rng.random() < NO_LESION_PROBABILITY:
        return tissue, mask
    # Swelling closes the sulci within a lesion, hence the smoothed surroundings as its ground; fluid is not among them.
    weight = (depth > 0) * (1.0 - ventricles) + 1e-6
    ground = gaussian_filter(weight * tissue, (0.0, 2.0, 2.0)) / gaussian_filter(weight, (0.0, 2.0, 2.0))
    for size in _lesion_sizes(rng):
        faint = size != "small" and rng.random() < 0.1
        contrast = rng.uniform(0.33, 0.43) if faint else rng.uniform(0.6, 1.0)
        edge = rng.uniform(2.0, 3.0) if faint else rng.uniform(0.4, 1.0)
        profile = _lesion_profile(rng, size, edge, head[2], depth, ventricles)
        tissue = tissue + (ground * (1.0 + contrast) * (1.0 + 0.05 * _smooth_noise(rng, 4.0)) - tissue) * profile
        mask |= profile >= 0.5
    return tissue, mask


def _lesion_sizes(rng: np.random.Generator) -> list[str]:
    """One case's lesions, at least one of them large enough to matter."""
    sizes = ["territory"] if rng.random() < 0.5 else ["medium"] * int(rng.integers(1, 3))
    return sizes + ["medium"] * int(rng.integers(0, 2)) + ["small"] * int(rng.integers(0, 3))


def _lesion_profile(
    rng: np.random.Generator, size: str, edge: float, x: np.ndarray, depth: np.ndarray, ventricles: np.ndarray
) -> np.ndarray:
    """(Z, Y, X) in [0, 1]: one irregular piece in one hemisphere's tissue, falling off over `edge` millimetres."""
    radius = rng.uniform(*LESION_RADIUS[size])
    possible = np.argwhere((depth > min(radius, 10.0)) & (ventricles < 0.1) & (np.abs(x) > 3.0))
    centre = rng.choice(possible)
    hemisphere = _soft_step(x * np.sign(x[tuple(centre)]) / 0.5)
    offset = (np.indices(SHAPE) - centre[:, None, None, None]) * np.reshape(SPACING_ZYX, (3, 1, 1, 1))
    axes = radius * rng.uniform(0.75, 1.3, 3)
    turned = np.tensordot(Rotation.from_rotvec(rng.uniform(-1.5, 1.5, 3)).as_matrix(), offset, axes=1)
    distance = np.sqrt(np.sum((turned / axes[:, None, None, None]) ** 2, axis=0))
    distance *= np.clip(1.0 + 0.28 * _smooth_noise(rng, max(0.4 * radius, 3.0)), 0.55, 1.6)
    profile = _soft_step((1.0 - distance) * radius / edge) * (depth > 0) * hemisphere * (1.0 - ventricles)
    parts, _ = label(profile > 0.2)
    return np.where(parts == parts[tuple(centre)], profile, 0.0)


def _scanner(rng: np.random.Generator, tissue: np.ndarray) -> np.ndarray:
    """Image (Z, Y, X), all above 0: a multiplicative bias field, Rician noise, an arbitrary scale."""
    bias = np.exp(rng.uniform(0.05, 0.15) * _smooth_noise(rng, 40.0))
    sigma = rng.uniform(0.03, 0.05)
    real, imaginary = sigma * rng.standard_normal((2, *SHAPE))
    return np.exp(rng.uniform(np.log(100.0), np.log(2000.0))) * np.hypot(tissue * bias + real, imaginary)


def _on_oblique_grid(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> tuple[sitk.Image, sitk.Image]:
    """Both arrays (Z, Y, X) as SimpleITK images: slices tilted by about 15 degrees, origin at the outer corner."""
    tilt = Rotation.from_euler("xyz", rng.uniform((8.0, -4.0, -4.0), (22.0, 4.0, 4.0)), degrees=True).as_matrix()
    spacing = SPACING_ZYX[::-1]
    half = np.array([(n - 1) / 2 * s for n, s in zip(SHAPE[::-1], spacing, strict=True)])
    origin = rng.uniform(-15.0, 15.0, 3) - tilt @ half
    images = sitk.GetImageFromArray(image), sitk.GetImageFromArray(mask)
    for volume in images:
        volume.SetSpacing(spacing)
        volume.SetDirection(tilt.ravel().tolist())
        volume.SetOrigin(origin.tolist())
    return images
