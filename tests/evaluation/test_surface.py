"""Surface distances: against MONAI on random shapes, and against distances known by hand."""

import json
import warnings

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from nnunet_sfma.evaluation.lesions import measure_lesions
from nnunet_sfma.evaluation.surface import directed_distances, measure_surfaces, nsd

SIZES = {"volume": (9, 14, 12), "picture": (24, 31)}


@pytest.mark.parametrize("picture", [False, True])
def test_any_number_but_0_is_inside(picture):
    reference, prediction = (np.zeros((1 if picture else 5, 12, 12), np.int16) for _ in range(2))
    reference[:, 2:6, 2:6], prediction[:, 2:6, 4:8] = 2, 4
    masks = prediction != 0, reference != 0
    assert masks[0].any() and masks[1].any()
    surfaces = measure_surfaces(prediction, reference, (3, 1, 1), 1)
    assert surfaces == measure_surfaces(*masks, (3, 1, 1), 1) and surfaces["hd95"] == 2
    lesions = measure_lesions(prediction, reference, 0.5)
    assert lesions == measure_lesions(*masks, 0.5)
    assert lesions["reference"] == [[8.0 * len(reference), True]]
    assert directed_distances(prediction, reference, (3, 1, 1)).max() == 2


def random_mask(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A blob, boxes, scattered voxels, one voxel, or several of them; often cut by the image's border."""
    mask = np.zeros(shape, bool)
    for kind in rng.choice(["blob", "box", "specks", "voxel"], size=rng.integers(1, 4)):
        if kind == "blob":
            noise = ndimage.gaussian_filter(rng.normal(size=shape), 2)
            mask |= noise > np.quantile(noise, rng.uniform(0.6, 0.95))
        elif kind == "box":
            corners = [sorted(rng.choice(size + 1, 2, replace=False)) for size in shape]
            mask[tuple(slice(low, high) for low, high in corners)] = True
        else:
            places = rng.choice(mask.size, 5 if kind == "specks" else 1, replace=False)
            mask.flat[places] = True
    return mask


def measure_with_monai(prediction: np.ndarray, reference: np.ndarray, spacing, tolerance: float) -> dict:
    metrics = pytest.importorskip("monai.metrics")
    import torch

    torch.set_num_threads(1)
    masks = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
    how = {"include_background": True, "spacing": list(spacing)}
    values = {
        "hd": metrics.compute_hausdorff_distance(*masks, **how),
        "hd95": metrics.compute_hausdorff_distance(*masks, **how, percentile=95),
        "asd": metrics.compute_average_surface_distance(*masks, **how),
        "assd": metrics.compute_average_surface_distance(*masks, **how, symmetric=True),
        "nsd": metrics.compute_surface_dice(*masks, [tolerance], **how),
    }
    return {name: value.item() for name, value in values.items()}


def slabs(shape: tuple[int, ...], first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
    """Two planes across the first axis."""
    prediction, reference = np.zeros(shape, bool), np.zeros(shape, bool)
    prediction[first], reference[second] = True, True
    return prediction, reference


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("block", range(4))
def test_agrees_with_monai(size, block):
    for seed in range(25 * block, 25 * (block + 1)):
        rng = np.random.default_rng([seed, len(SIZES[size])])
        prediction, reference = random_mask(rng, SIZES[size]), random_mask(rng, SIZES[size])
        spacing, tolerance = rng.uniform(0.3, 4, prediction.ndim), rng.uniform(0, 5)
        measured = measure_surfaces(prediction, reference, spacing, tolerance)
        expected = measure_with_monai(prediction, reference, spacing, tolerance)
        found = {name: measured[name] for name in ("hd", "hd95", "asd", "assd")} | {"nsd": nsd(measured)}
        assert found == pytest.approx(expected, abs=1e-4), f"seed {seed}"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(10))
def test_agrees_with_all_pairs_of_surface_voxels(size, seed):
    rng = np.random.default_rng(seed)
    prediction, reference = random_mask(rng, SIZES[size]), random_mask(rng, SIZES[size])
    spacing = rng.uniform(0.3, 4, prediction.ndim)
    surfaces = [
        np.argwhere(mask & ~ndimage.binary_erosion(mask)) * np.array(spacing) for mask in (prediction, reference)
    ]
    pairs = cdist(*surfaces)
    there, back = pairs.min(axis=1), pairs.min(axis=0)
    assert measure_surfaces(prediction, reference, spacing, 2.0) == pytest.approx(
        {
            "surface_prediction": len(there),
            "surface_reference": len(back),
            "hd": max(there.max(), back.max()),
            "hd95": max(np.percentile(there, 95), np.percentile(back, 95)),
            "hd95_pooled": np.percentile(np.concatenate([there, back]), 95),
            "asd": there.mean(),
            "assd": np.concatenate([there, back]).mean(),
            "within_prediction": (there <= 2).sum(),
            "within_reference": (back <= 2).sum(),
        }
    )


@pytest.mark.parametrize("axis, distance", [(0, 15.0), (1, 2.5), (2, 4.0)])
def test_planes_lie_as_far_apart_as_their_axis_spacing_says(axis, distance):
    prediction, reference = (np.moveaxis(mask, 0, axis) for mask in slabs((8, 9, 10), 1, 6))
    measured = measure_surfaces(prediction, reference, (3.0, 0.5, 0.8), tolerance=distance)
    for name in ("hd", "hd95", "hd95_pooled", "asd", "assd"):
        assert measured[name] == pytest.approx(distance)
    assert nsd(measured) == 1
    assert nsd(measure_surfaces(prediction, reference, (3.0, 0.5, 0.8), tolerance=0.99 * distance)) == 0


def test_a_voxel_at_the_tolerance_counts_though_spacings_are_rounded():
    prediction, reference = slabs((8, 5), 1, 4)
    for spacing in (0.1, float(np.float32(0.1)), 0.1 + 1e-8):
        assert nsd(measure_surfaces(prediction, reference, (spacing, 1.0), tolerance=0.3)) == 1


def test_outliers_count_in_the_worse_direction_but_little_in_both_together():
    reference = np.zeros((30, 100), bool)
    reference[5, :94] = True
    prediction = reference.copy()
    prediction[15, :6] = True
    measured = measure_surfaces(prediction, reference, (1, 1), 1)
    assert (measured["surface_prediction"], measured["surface_reference"]) == (100, 94)
    assert measured["hd"] == measured["hd95"] == 10
    assert measured["hd95_pooled"] == 0
    assert nsd(measured) == pytest.approx((94 + 94) / 194)


def test_mean_distances_are_directed_and_pooled():
    prediction, reference = np.zeros((1, 9), bool), np.zeros((1, 9), bool)
    prediction[0, 0], reference[0, [0, 3, 6]] = True, True
    assert measure_surfaces(prediction, reference, (1, 2), 0)["asd"] == 0
    assert measure_surfaces(reference, prediction, (1, 2), 0)["asd"] == pytest.approx((0 + 6 + 12) / 3)
    assert measure_surfaces(prediction, reference, (1, 2), 0)["assd"] == pytest.approx((0 + 0 + 6 + 12) / 4)


def test_the_surface_has_face_neighbours_outside_of_the_mask_or_of_the_image():
    full = np.ones((5, 6, 7), bool)
    assert measure_surfaces(full, full, (1, 1, 1), 0)["surface_reference"] == 5 * 6 * 7 - 3 * 4 * 5
    hollow = full.copy()
    hollow[2, 2, 2] = False
    assert measure_surfaces(hollow, full, (1, 1, 1), 0)["surface_prediction"] == 5 * 6 * 7 - 3 * 4 * 5 + 6


def test_a_picture_is_measured_as_a_picture():
    prediction, reference = (random_mask(np.random.default_rng(seed), (20, 20)) for seed in (1, 2))
    flat = measure_surfaces(prediction, reference, (0.5, 2.0), 1)
    assert measure_surfaces(prediction[None], reference[None], (999.0, 0.5, 2.0), 1) == flat
    full = np.ones((1, 5, 5), bool)
    assert measure_surfaces(full, full, (1, 1, 1), 0)["surface_reference"] == 16


def test_one_slice_of_a_volume_is_all_surface():
    volume = np.zeros((3, 5, 5), bool)
    volume[1] = True
    assert measure_surfaces(volume, volume, (1, 1, 1), 0)["surface_reference"] == 25


@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 5, 6), (5, 6)])
def test_empty_masks_have_no_distances(shape):
    empty, one = np.zeros(shape, bool), np.zeros(shape, bool)
    one.flat[7] = True
    spacing = (1.0,) * len(shape)
    both = measure_surfaces(empty, empty, spacing, 1)
    assert both == {"surface_prediction": 0, "surface_reference": 0}
    assert nsd(both) is None
    missed = measure_surfaces(empty, one, spacing, 1)
    assert missed == {"surface_prediction": 0, "surface_reference": 1}
    assert nsd(missed) == 0
    assert measure_surfaces(one, empty, spacing, 1) == {"surface_prediction": 1, "surface_reference": 0}


def test_room_around_the_masks_changes_nothing():
    rng = np.random.default_rng(3)
    prediction, reference = random_mask(rng, (6, 10, 8)), random_mask(rng, (6, 10, 8))
    roomy = [np.pad(mask, ((2, 30), (11, 0), (1, 5))) for mask in (prediction, reference)]
    spacing = (3.0, 0.7, 0.9)
    assert measure_surfaces(*roomy, spacing, 1) == measure_surfaces(prediction, reference, spacing, 1)


def test_tolerance_may_be_zero():
    prediction, reference = slabs((8, 5), 1, 4)
    prediction[4] = True
    assert nsd(measure_surfaces(prediction, reference, (1, 1), 0)) == pytest.approx(10 / 15)


def test_measurements_can_be_written_as_json():
    prediction, reference = slabs((8, 5), 1, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = measure_surfaces(prediction, reference, np.float32([1, 1]), np.float32(1))
    assert json.loads(json.dumps(measured)) == measured


@pytest.mark.parametrize(
    "shape, spacing, sentence", [((1, 4, 5), (1, 1, 1), "same shape"), ((3, 4, 5), (1, 1), "must have 3 entries")]
)
def test_what_does_not_fit_is_refused(shape, spacing, sentence):
    with pytest.raises(ValueError, match=sentence):
        measure_surfaces(np.ones(shape, bool), np.ones((3, 4, 5), bool), spacing, 1)
