"""ISIC 2017 and 2018: which files are photographs, what becomes of their pixels, and which parts may train."""

import json

import numpy as np
import pytest
from PIL import Image

from dataset_conversion import isic2017, isic2018
from dataset_conversion.found import convert
from nnunet_sfma.errors import UserError
from tests.dataset_conversion import releases
from tests.dataset_conversion.releases import names, one, picture, picture_mask, save, voxels

YEARS = {"2017": (isic2017.find, releases.build_isic2017), "2018": (isic2018.find, releases.build_isic2018)}
FIRST = "ISIC_0000000"


@pytest.fixture(params=YEARS)
def year(request):
    """The finder and the builder of one year."""
    return YEARS[request.param]


def decoded(path) -> np.ndarray:
    """The pixels of a photograph as any reader sees them."""
    return np.asarray(Image.open(path))


def image(target) -> np.ndarray:
    return voxels(target / f"imagesTr/{FIRST}_0000.png")


def label(target) -> np.ndarray:
    return voxels(target / f"labelsTr/{FIRST}.png")


# Which files


def test_only_photographs_are_images(raw, source, year):
    """Superpixels, tables and licences lie in the same folders."""
    find, build = year
    target = convert(find(build(source), 32), 501)
    cases = {case.identifier for case in find(source).cases + find(source).test_cases}
    assert cases == {f"ISIC_000{part}00{index}" for part in range(3) for index in range(2)}
    assert all("superpixels" not in name for name in names(target / "imagesTr"))


def test_superpixels_alone_are_no_images(source):
    root = releases.build_isic2017(source)
    for path in root.rglob("*.jpg"):
        path.unlink()
    assert all("no image" in problem for problem in isic2017.find(root).problems)
    assert not isic2017.find(root).cases


def test_validation_of_2017_trains_and_its_second_test_set_tests(raw, source, provenance):
    target = convert(isic2017.find(releases.build_isic2017(source), 32), 501)
    training = ["ISIC_0000000", "ISIC_0000001", "ISIC_0001000", "ISIC_0001001"]
    testing = ["ISIC_0002000", "ISIC_0002001"]
    assert names(target / "labelsTr") == [f"{name}.png" for name in training]
    assert names(target / "imagesTs") == [f"{name}_0000.png" for name in testing]
    assert names(target / "labelsTs") == [f"{name}.png" for name in testing]
    assert [provenance(target)[name]["part"] for name in training] == ["Training"] * 2 + ["Validation"] * 2
    assert {provenance(target)[name]["part"] for name in testing} == {"Test"}


def test_validation_and_test_of_2018_test(raw, source, provenance):
    target = convert(isic2018.find(releases.build_isic2018(source), 32), 501)
    testing = ["ISIC_0001000", "ISIC_0001001", "ISIC_0002000", "ISIC_0002001"]
    assert names(target / "labelsTr") == ["ISIC_0000000.png", "ISIC_0000001.png"]
    assert names(target / "labelsTs") == [f"{name}.png" for name in testing]
    assert [provenance(target)[name]["part"] for name in testing] == ["Validation"] * 2 + ["Test"] * 2


def test_counts_are_told_by_part(source):
    assert isic2017.find(releases.build_isic2017(source)).counts == {
        "Training": (2, 2000),
        "Validation": (2, 150),
        "Test": (2, 600),
    }
    assert isic2018.find(releases.build_isic2018(source)).counts == {
        "Training": (2, 2594),
        "Validation": (2, 100),
        "Test": (2, 1000),
    }


def test_folders_nested_by_unzipping(source, year):
    find, build = year
    root = build(source)
    for folder in [path for path in root.iterdir() if path.is_dir()]:
        inner = releases.move(folder, source / "aside" / folder.name)
        releases.move(inner, folder / folder.name)
    found = find(root)
    assert not found.problems and len(found.cases + found.test_cases) == 6
    assert found.counts["Training"][0] == 2


def test_photograph_in_two_parts_is_named(source, year):
    find, build = year
    root = build(source)
    folder = one(root, f"{FIRST}.jpg").parent
    save(picture(5), folder.with_name(folder.name.replace("Training", "Validation")) / f"{FIRST}.jpg")
    (problem,) = find(root).problems
    assert FIRST in problem and "several files" in problem


# Pixels


@pytest.mark.parametrize("size", [0, 256])
def test_channels_are_red_green_and_blue_as_lossless_png(raw, source, year, size):
    find, build = year
    root = build(source)
    target = convert(find(root, size), 501)
    entries = json.loads((target / "dataset.json").read_text())
    assert entries["channel_names"] == {"0": "R", "1": "G", "2": "B"} and entries["file_ending"] == ".png"
    assert entries["labels"] == {"background": 0, "lesion": 1}
    expected = decoded(one(root, f"{FIRST}.jpg"))
    if size:
        expected = np.asarray(Image.fromarray(expected).resize((size, size), Image.Resampling.BOX))
    np.testing.assert_array_equal(image(target), expected)


def test_default_size_is_256(raw, source, year):
    find, build = year
    target = convert(find(build(source)), 501)
    assert image(target).shape == (256, 256, 3) and label(target).shape == (256, 256)


def test_size_0_keeps_full_resolution_exactly(raw, source, year):
    find, build = year
    root = build(source)
    target = convert(find(root, 0), 501)
    np.testing.assert_array_equal(image(target), decoded(one(root, f"{FIRST}.jpg")))
    np.testing.assert_array_equal(label(target), decoded(one(root, f"{FIRST}_segmentation.png")) // 255)
    assert target.name.endswith("_full")


def test_image_is_averaged_over_the_area_and_mask_takes_the_nearest(raw, source, year):
    """Blocks of 5 x 3 pixels become one, so their mean and their middle are known without a library."""
    find, build = year
    root = build(source)
    noise = np.random.default_rng(0).integers(0, 2, (48, 80), dtype=np.uint8)
    photograph = save(picture(1, (80, 48)), one(root, f"{FIRST}.jpg"))
    save(Image.fromarray(255 * noise), one(root, f"{FIRST}_segmentation.png"))
    target = convert(find(root, 16), 501)
    means = decoded(photograph).reshape(16, 3, 16, 5, 3).mean(axis=(1, 3))
    assert np.abs(image(target) - means).max() <= 1
    np.testing.assert_array_equal(label(target), noise[1::3, 2::5])


@pytest.mark.parametrize("value", [1, 127, 128, 255])
def test_the_only_value_of_a_mask_is_the_lesion(raw, source, year, value, provenance):
    find, build = year
    root = build(source)
    save(picture_mask(value=value), one(root, f"{FIRST}_segmentation.png"))
    target = convert(find(root, 0), 501)
    np.testing.assert_array_equal(label(target), np.asarray(picture_mask(value=1)))
    noted = [] if value == 255 else [f"in the mask {value} stands for the lesion"]
    assert provenance(target)[FIRST]["notes"] == noted


@pytest.mark.parametrize("scale", [1, 257])
def test_soft_edges_count_from_half_of_the_scale(raw, source, scale):
    root = releases.build_isic2018(source)
    shades = np.zeros((30, 40), np.uint16)
    shades[10:20, 10:30] = 255
    shades[10:20, 9], shades[10:20, 30] = 128, 127
    soft = Image.fromarray((shades * scale).astype(np.uint8 if scale == 1 else np.uint16))
    save(soft, one(root, f"{FIRST}_segmentation.png"))
    np.testing.assert_array_equal(label(convert(isic2018.find(root, 0), 501)), shades > 127)


def palette(mask: Image.Image) -> Image.Image:
    """Index 0 is white and index 1 black, so indices and colours cannot be mixed up unnoticed."""
    indices = Image.fromarray((np.asarray(mask) == 0).astype(np.uint8))
    indices.putpalette([255, 255, 255, 0, 0, 0])
    return indices


def in_colours(mask: Image.Image, *colours: tuple[int, int, int]) -> Image.Image:
    """Black, then a colour for each value above 0 in turn; the first 300 pixels of a mask's box are its value 1."""
    array = (np.asarray(mask) > 0).astype(np.uint8)
    if len(colours) > 1:
        array[:10] *= 2
    indices = Image.fromarray(array)
    indices.putpalette([0, 0, 0, *(number for colour in colours for number in colour)])
    return indices


def with_alpha(mask: Image.Image, alpha: Image.Image) -> Image.Image:
    return Image.merge("LA", [mask, alpha])


ODD_MASKS = {
    "1 bit": lambda mask: mask.convert("1"),
    "palette": palette,
    "RGB": lambda mask: mask.convert("RGB"),
    "RGBA": lambda mask: mask.convert("RGBA"),
    "16 bit": lambda mask: Image.fromarray(np.asarray(mask).astype(np.uint16) * 257),
    "16 bit up to 255": lambda mask: Image.fromarray(np.asarray(mask).astype(np.uint16)),
    "16 bit up to 1": lambda mask: Image.fromarray(np.asarray(mask).astype(np.uint16) // 255),
    "dark palette": lambda mask: in_colours(mask, (200, 0, 0)),
    "blue": lambda mask: in_colours(mask, (0, 0, 255)).convert("RGB"),
    "cut out": lambda mask: with_alpha(mask, mask),
}


@pytest.mark.parametrize("kind", ODD_MASKS)
@pytest.mark.parametrize("size", [0, 32])
def test_mask_in_another_png_mode_is_the_same_mask(raw, source, year, kind, size):
    find, build = year
    root = build(source)
    usual = label(convert(find(root, size), 501))
    odd = ODD_MASKS[kind](picture_mask())
    assert odd.mode != "L"
    save(odd, one(root, f"{FIRST}_segmentation.png"))
    np.testing.assert_array_equal(label(convert(find(root, size), 501, overwrite=True)), usual)
    assert usual.any()


def test_grey_photograph_gets_three_channels(raw, source, year):
    find, build = year
    root = build(source)
    grey = save(picture(3).convert("L"), one(root, f"{FIRST}.jpg"))
    target = convert(find(root, 0), 501)
    np.testing.assert_array_equal(image(target), np.repeat(decoded(grey)[..., None], 3, axis=2))


def test_orientation_tag_turns_neither_photograph_nor_mask(raw, source, year):
    find, build = year
    root = build(source)
    path = one(root, f"{FIRST}.jpg")
    tagged = Image.Exif()
    tagged[0x0112] = 6
    picture(4).save(path, exif=tagged)
    assert image(convert(find(root, 0), 501)).shape == (30, 40, 3)


# What is refused


def refused(find, root, *args) -> str:
    with pytest.raises(UserError) as error:
        convert(find(root, *args), 501)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("size", [0, 32])
def test_photograph_and_mask_of_different_sizes(raw, source, year, size):
    """Also where both would be resized to one."""
    find, build = year
    root = build(source)
    path = save(picture_mask((30, 40)), one(root, f"{FIRST}_segmentation.png"))
    sentence = refused(find, root, size)
    assert path.name in sentence and "40 x 30" in sentence and "30 x 40" in sentence
    assert names(raw) == []


BLACK, WHITE = Image.new("L", releases.PICTURE), Image.new("L", releases.PICTURE, 255)
AMBIGUOUS = {
    "alpha alone on black": with_alpha(BLACK, picture_mask()),
    "alpha alone on white": with_alpha(WHITE, picture_mask()),
    "alpha of the background": with_alpha(picture_mask(), Image.eval(picture_mask(), lambda value: 255 - value)),
    "two dark values": Image.eval(picture_mask(), lambda value: 100 if value else 3),
    "dark with soft edges": picture_mask(value=100).resize((20, 15), Image.Resampling.BOX).resize(releases.PICTURE),
    "12 bit with soft edges": Image.fromarray(np.linspace(0, 4095, 1200).astype(np.uint16).reshape(30, 40)),
    "0, 1 and a stray 255": Image.fromarray(np.asarray(picture_mask(value=1)) + 255 * np.eye(30, 40, dtype=np.uint8)),
    "all of one dark value": Image.new("L", releases.PICTURE, 1),
    "two colours": in_colours(picture_mask(), (255, 0, 0), (0, 255, 0)),
    "palette of black only": in_colours(picture_mask(), (0, 0, 0)),
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_ambiguous_mask_is_refused_by_name(raw, source, kind):
    """None of them may become an empty or another label in silence."""
    root = releases.build_isic2018(source)
    path = save(AMBIGUOUS[kind], one(root, f"{FIRST}_segmentation.png"))
    assert np.asarray(Image.open(path)).any()
    sentence = refused(isic2018.find, root, 32)
    assert f"The mask {path} " in sentence and "ambiguous" in sentence and names(raw) == []


def test_mask_of_the_whole_picture_is_noted_and_an_empty_one_stays_empty(raw, source, provenance):
    root = releases.build_isic2018(source)
    save(WHITE, one(root, f"{FIRST}_segmentation.png"))
    save(with_alpha(BLACK, WHITE), one(root, "ISIC_0000001_segmentation.png"))
    target = convert(isic2018.find(root, 32), 501)
    assert label(target).all() and not voxels(target / "labelsTr/ISIC_0000001.png").any()
    assert provenance(target)[FIRST]["notes"] == ["the mask covers the whole picture"]


def test_negative_size(source, year):
    find, build = year
    assert "--size -1" in refused(find, build(source), -1)


# Real images


def test_real_photographs_in_full_resolution(raw, real_isic2017):
    found = isic2017.find(real_isic2017, 0)
    found.cases, found.problems = sorted(found.cases, key=lambda case: case.sources[0].stat().st_size)[:2], []
    target = convert(found, 501)
    for case in found.cases:
        photograph, mask = case.sources
        np.testing.assert_array_equal(voxels(target / f"imagesTr/{case.identifier}_0000.png"), decoded(photograph))
        np.testing.assert_array_equal(voxels(target / f"labelsTr/{case.identifier}.png"), decoded(mask) // 255)


def test_real_photographs_at_256(raw, real_isic2017):
    """Of a lesion's area, the nearest of 256 x 256 pixels lose little."""
    found = isic2017.find(real_isic2017)
    assert not found.problems and {case.part for case in found.cases} == {"Validation"}
    target = convert(found, 501)
    for case in found.cases:
        share = (decoded(case.sources[1]) > 127).mean()
        assert voxels(target / f"labelsTr/{case.identifier}.png").mean() == pytest.approx(share, abs=0.01)
