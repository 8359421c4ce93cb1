import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.ndimage import binary_fill_holes, label

from nnunet_sfma.demo.phantom import stroke_phantom

SEED = 0
CASES = 24
TRAINING_CASES = 16
THRESHOLDS = np.linspace(-1.0, 4.0, 51)


@pytest.fixture(scope="module")
def volumes() -> list[tuple[sitk.Image, sitk.Image]]:
    return [stroke_phantom(SEED, index) for index in range(CASES)]


@pytest.fixture(scope="module")
def cases(volumes) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(mask)) for image, mask in volumes]


def lesion_volumes(mask: np.ndarray) -> list[int]:
    return np.bincount(label(mask, np.ones((3, 3, 3)))[0].ravel())[1:].tolist()


def dice_per_threshold(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Dice of the brain's z-scored intensities above each of THRESHOLDS."""
    brain = image[image > 0]
    lesion = mask[image > 0] > 0
    above = (brain - brain.mean()) / brain.std() > THRESHOLDS[:, None]
    return 2 * (above & lesion).sum(1) / (above.sum(1) + lesion.sum())


def test_a_case_is_reproducible_bit_for_bit(volumes):
    again = stroke_phantom(SEED, 5)
    for first, second in zip(volumes[5], again, strict=True):
        assert sitk.GetArrayFromImage(first).tobytes() == sitk.GetArrayFromImage(second).tobytes()
        assert first.GetDirection() == second.GetDirection()
        assert first.GetOrigin() == second.GetOrigin()


@pytest.mark.parametrize("other", [(SEED, 1), (SEED + 1, 0)])
def test_another_index_or_seed_is_another_case(volumes, other):
    for first, second in zip(volumes[0], stroke_phantom(*other), strict=True):
        assert np.any(sitk.GetArrayFromImage(first) != sitk.GetArrayFromImage(second))
    assert volumes[0][0].GetOrigin() != stroke_phantom(*other)[0].GetOrigin()


@pytest.mark.parametrize("seed, index", [(-1, 0), (0, -1)])
def test_negative_seed_or_index_is_refused(seed, index):
    with pytest.raises(ValueError):
        stroke_phantom(seed, index)


def test_image_and_mask_share_one_oblique_grid(volumes):
    for image, mask in volumes:
        assert image.GetSize() == mask.GetSize() == (96, 96, 12)
        assert image.GetSpacing() == mask.GetSpacing() == (2.0, 2.0, 6.0)
        assert image.GetDirection() == mask.GetDirection()
        assert image.GetOrigin() == mask.GetOrigin()
        direction = np.reshape(image.GetDirection(), (3, 3))
        np.testing.assert_allclose(direction @ direction.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(direction) > 0
        assert np.abs(direction - np.eye(3)).max() > 0.1
        assert np.linalg.norm(image.GetOrigin()) > 10.0


def test_geometry_survives_nifti(volumes, tmp_path):
    image = volumes[0][0]
    sitk.WriteImage(image, tmp_path / "case.nii.gz")
    read = sitk.ReadImage(tmp_path / "case.nii.gz")
    np.testing.assert_allclose(read.GetDirection(), image.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(read.GetOrigin(), image.GetOrigin(), atol=1e-3)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(image))


def test_pixel_types_and_labels(volumes, cases):
    for (image, mask), (_, labels) in zip(volumes, cases, strict=True):
        assert image.GetPixelID() == sitk.sitkFloat32
        assert mask.GetPixelID() == sitk.sitkUInt8
        assert set(np.unique(labels)) <= {0, 1}
    assert any(set(np.unique(labels)) == {0, 1} for _, labels in cases)


def test_the_brain_is_one_piece_on_a_background_of_zero(cases):
    for image, mask in cases:
        assert np.isfinite(image).all() and image.min() == 0
        brain = image > 0
        assert label(brain)[1] == 1
        assert 0.2 < brain.mean() < 0.6
        assert all(np.array_equal(binary_fill_holes(plane), plane) for plane in brain)
        assert not brain[:, [0, -1], :].any() and not brain[:, :, [0, -1]].any()
        assert not mask[~brain].any()


def test_global_scale_varies(cases):
    means = [image[image > 0].mean() for image, _ in cases]
    assert max(means) > 3 * min(means)


def test_lesions_of_several_sizes_and_a_few_cases_without(cases):
    volumes = [lesion_volumes(mask) for _, mask in cases]
    every = [voxels for case in volumes for voxels in case]
    assert 1 <= sum(not case for case in volumes) <= CASES // 4
    assert sum(len(case) > 1 for case in volumes) > CASES // 4
    assert min(every) < 30 and max(every) > 1500
    assert any(100 < voxels < 800 for voxels in every)
    assert min(sum(case) for case in volumes if case) > 100
    assert np.mean([sum(case) for case in volumes]) > 400


def test_no_global_threshold_finds_the_lesions(cases):
    dice = [dice_per_threshold(*case) if case[1].any() else None for case in cases]
    training = np.mean([row for row in dice[:TRAINING_CASES] if row is not None], axis=0)
    held_out = np.mean([row for row in dice[TRAINING_CASES:] if row is not None], axis=0)
    assert held_out[np.argmax(training)] < 0.6
