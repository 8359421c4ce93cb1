"""``write_report``: what the page says, and that its tables are the same everywhere."""

import base64
import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from nnunet_sfma.errors import UserError
from nnunet_sfma.reporting.cases import typical_cases
from nnunet_sfma.reporting.models import name_models
from nnunet_sfma.reporting.overlays import ADDED, CONFUSED, FOUND, MISSED, NOTHING, compare_labels, telling_slice
from nnunet_sfma.reporting.plots import learning_curves
from nnunet_sfma.reporting.report import write_report
from nnunet_sfma.reporting.tables import Column, Table, plus_minus, to_csv, to_latex, to_markdown, words
from tests.reporting.conftest import add_explain

EVIL = '"><script>alert(1)</script>'


class Page(HTMLParser):
    """The tables of a page by id, and its text by section."""

    def __init__(self, html: str):
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.images: list[str] = []
        self.text = ""
        self._rows: list[list[str]] | None = None
        self._cell = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "table":
            self._rows = self.tables[attributes["id"].removeprefix("table-")] = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._cell = True
            self._rows[-1].append("")
        elif tag == "img":
            self.images.append(attributes["src"])

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data):
        self.text += data
        if self._cell:
            self._rows[-1][-1] += data


@pytest.fixture(scope="module")
def written(make_with_images, tmp_path_factory) -> list[Path]:
    """A report of two models that a paper's table covers, with evil names, written once."""
    common = {"classes": ("lesion",), "cases": [EVIL, *(f"case_{n}" for n in range(9))], "release": "isles2022"}
    evaluations = [
        make_with_images(curves=True, **common),
        make_with_images(name=f"nnUNetTrainerDANIE_L / {EVIL} / 2d", quality=0.7, **common),
    ]
    add_explain(evaluations[0], figures=2, size=(60, 40))
    return write_report(evaluations, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def page(written) -> Page:
    return Page(written[0].read_text())


def test_names_cannot_smuggle_markup_into_the_page(written):
    html = written[0].read_text()
    assert "<script>alert" not in html
    assert html.count("<script") == 1
    assert "&lt;script&gt;alert(1)" in html


def test_tables_are_the_same_in_the_page_and_in_all_files(written, page):
    folder = written[0].with_name("report_tables")
    names = {path.stem for path in folder.iterdir()}
    assert names == set(page.tables)
    assert {"summary", "all-figures", "tests", "published-1", "protocol", "cost", "cases", "folds", "origin"} <= names
    for name, rows in page.tables.items():
        markdown = [line for line in (folder / f"{name}.md").read_text().splitlines() if line.startswith("| ")]
        assert [_unescape(line) for line in markdown] == rows
        latex = [line for line in (folder / f"{name}.tex").read_text().splitlines() if line.endswith(r" \\")]
        assert len(latex) == len(rows)
        assert len(list(csv.reader(io.StringIO((folder / f"{name}.csv").read_text())))) == len(rows)


def test_csv_has_all_digits_of_what_the_page_rounds(written, page):
    rows = list(csv.DictReader(io.StringIO((written[0].with_name("report_tables") / "summary.csv").read_text())))
    column = page.tables["summary"][0].index("Dice ↑")
    for row, shown in zip(rows, page.tables["summary"][1:], strict=True):
        mean, sd = row["Dice ↑ mean"], row["Dice ↑ sd"]
        assert len(mean) > 8
        assert shown[column] == f"{float(mean):.3f} ± {float(sd):.3f}"


def test_page_asks_for_nothing_outside(written):
    html = written[0].read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]+', html.replace('xlink:href="#', 'href="#'))
    assert "@import" not in html and "url(http" not in html


def test_ours_stand_below_the_published_numbers(page):
    sources = [row[1] for row in page.tables["published-1"][1:]]
    assert sources[-2:] == ["ours", "ours"] and set(sources[:-2]) == {"published"}
    assert "Scientific Reports" in page.text


def test_departures_from_the_paper_stand_beside_the_comparison(make_with_images, tmp_path):
    evaluation = make_with_images()
    evaluation["model"]["architecture"] = {
        "network_class_name": "nnunet_sfma.networks.sfmanet.model.SFMANet",
        "arch_kwargs": {"features_per_stage": [64, 128, 256, 512, 1024]},
    }
    write_report([evaluation], tmp_path / "report.html")
    assert "Strips of 11 and 21 of the frequency branch work on Out_S." in (tmp_path / "report.html").read_text()
    assert "architecture.fgu_rescale=false" in (tmp_path / "report_tables" / "departures.csv").read_text()


def test_how_it_was_made_is_told(page):
    assert "nnUNetv2_train 501 2d 4 -tr nnUNetTrainerSFMANet -p sfmanet" in page.text
    origin = {row[0]: row[1] for row in page.tables["origin"]}
    assert origin["Split SHA-256"] == "0123456789abcdef" * 4 and origin["nnunetv2"] == "2.8.1"
    assert len(page.tables["folds"]) == 1 + 2 * 5


def test_learning_curves_have_a_line_for_each_fold(written, page):
    assert "fold 4" in page.text and "Training: solid; validation: dashed." in page.text
    loss = re.search(r'<svg role="img" aria-label="Loss.*?</svg>', written[0].read_text(), re.DOTALL)[0]
    for fold in range(5):
        # training and validation, besides nothing else in this colour
        assert loss.count(f"var(--series-{fold})") == 2
    rate = re.search(r'<svg role="img" aria-label="Learning rate.*?</svg>', written[0].read_text(), re.DOTALL)[0]
    assert ">0.0001</text>" in rate


def test_figures_are_the_same_after_a_training_in_the_same_process(make_with_images):
    import matplotlib
    import seaborn

    (model,) = name_models([make_with_images(cases=3, curves=True)])
    before = learning_curves(model)
    with matplotlib.rc_context():
        seaborn.set_theme(font_scale=2.5)  # as nnU-Net's logger does
        assert learning_curves(model) == before


def test_explain_figures_are_shown(page):
    assert "SGU gate, skip 1" in page.text and "What the network looks at" in page.text


def test_missing_folds_stand_at_the_top_and_take_all_averages_away(make_with_images, tmp_path):
    evaluation = make_with_images(classes=("core", "penumbra"))
    evaluation |= {"summary": None, "detection_by_size": None}
    evaluation["missing"] = ["Fold 2 is not finished (13 of 50 epochs): continue it with nnUNetv2_train --c."]
    mean = np.mean([case["mean"]["dice"] for case in evaluation["cases"]])
    paths = write_report([evaluation], tmp_path / "report.html")
    page = Page(paths[0].read_text())
    assert page.text.index("Fold 2 is not finished") < page.text.index("Summary", page.text.index("No averages"))
    assert not {"summary", "all-figures", "tests"} & set(page.tables)
    assert f"{mean:.3f} ±" not in page.text and "Box plot" not in paths[0].read_text()
    assert len(page.tables["cases"]) == 1 + 10 * 3


def test_a_model_that_is_not_complete_leaves_the_averages_of_the_other(two_models, tmp_path):
    two_models[1] |= {"summary": None, "missing": ["Fold 2 is not trained."]}
    page = Page(write_report(two_models, tmp_path / "report.html")[0].read_text())
    assert {row[0] for row in page.tables["summary"][1:]} == {"SFMANet / sfmanet"}
    assert "is not complete" in page.text


def test_models_that_cannot_be_compared_are_not_and_it_says_why(two_models, tmp_path):
    two_models[1]["conventions"]["empty"] = "challenge"
    page = Page(write_report(two_models, tmp_path / "report.html")[0].read_text())
    assert "cannot be compared, because they differ in the conventions" in page.text
    assert "tests" not in page.tables


@pytest.mark.parametrize("colours, first", [("safe", (0xF0, 0xE4, 0x42)), ("paper", (0xFF, 0xE0, 0x00))])
def test_overlays_have_the_colours_that_were_asked_for(make_with_images, tmp_path, colours, first):
    paths = write_report([make_with_images(cases=3)], tmp_path / "report.html", colours=colours)
    page = Page(paths[0].read_text())
    legend, pictures = page.images[:3], page.images[3:]
    found = _pixels(legend[0])[0, 0].astype(float)
    # the colour lies half transparent on grey
    direction = (found - 110) / (np.array(first) - 110.0)
    assert np.ptp(direction) < 0.03
    assert ("which SFMANet's paper calls true negative" in page.text) == (colours == "paper")
    assert len(pictures) == 2 * 3
    plain, marked = _pixels(pictures[0]), _pixels(pictures[1])
    assert np.ptp(plain.astype(int), axis=2).max() < 20 and np.ptp(marked.astype(int), axis=2).max() > 100


def test_images_that_are_gone_leave_labels_on_black(make_with_images, tmp_path):
    evaluation = make_with_images(cases=3)
    for case in evaluation["cases"]:
        case["images"] = []
    page = Page(write_report([evaluation], tmp_path / "report.html")[0].read_text())
    assert "The image was not found. Label and prediction are drawn on black." in page.text
    assert _pixels(page.images[-1])[0, 0].max() < 20


def test_predictions_that_are_gone_or_damaged_leave_a_note(make_with_images, tmp_path):
    evaluation = make_with_images(cases=3)
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(b"no image")
    for case, path in zip(evaluation["cases"], ("/gone.nii.gz", damaged, "/gone.nii.gz"), strict=True):
        case["prediction"] = str(path)
    text = Page(write_report([evaluation], tmp_path / "report.html")[0].read_text()).text
    assert "/gone.nii.gz is not there any more" in text and "damaged.nii.gz could not be read" in text


def test_prediction_of_another_shape_leaves_a_note(make_with_images, tmp_path):
    evaluation = make_with_images(cases=3)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 5, 5), np.uint8)), evaluation["cases"][0]["prediction"])
    page = Page(write_report([evaluation], tmp_path / "report.html")[0].read_text())
    assert "has another shape than its label" in page.text


def test_damaged_explain_figures_are_refused(make_with_images, tmp_path):
    evaluation = make_with_images(cases=2)
    add_explain(evaluation, figures=1, size=(20, 20))
    (Path(evaluation["path"]).parent / "explain" / "explain.json").write_text('{"figures": [{')
    with pytest.raises(UserError, match="explain.json is damaged"):
        write_report([evaluation], tmp_path / "report.html")


def test_models_on_two_data_sets_are_told_apart(make_with_images, tmp_path):
    evaluations = [make_with_images(cases=3), make_with_images(cases=2, dataset="Dataset027_ACDC", classes=("LV",))]
    page = Page(write_report(evaluations, tmp_path / "report.html")[0].read_text())
    labels = {row[0] for row in page.tables["summary"][1:]}
    assert len(labels) == 2
    assert any("Dataset027_ACDC" in label for label in labels)
    assert "Left out" not in page.text  # each has all its own classes


def test_two_cases_are_the_best_and_the_worst(make_with_images):
    evaluation = make_with_images(cases=2)
    (model,) = name_models([evaluation])
    assert [word for word, _ in typical_cases(model)] == ["Best", "Worst"]
    evaluation["cases"] = evaluation["cases"][:1]
    assert [word for word, _ in typical_cases(model)] == ["Best"]


def test_fifty_cases_with_two_models_fit_into_a_mail(make_with_images, tmp_path):
    common = {"shape": (6, 256, 256), "cases": 50}
    evaluations = [make_with_images(**common), make_with_images(name="nnUNetTrainer / nnUNetPlans / 2d", **common)]
    add_explain(evaluations[0], figures=8, size=(900, 600))
    page = write_report(evaluations, tmp_path / "report.html")[0]
    assert page.stat().st_size < 5_000_000
    assert "would make this file too large for a mail" in page.read_text()


def test_a_failure_leaves_nothing_behind(make_with_images, tmp_path):
    evaluation = make_with_images(cases=3)
    for name, blocked in (("page", "page.html"), ("tables", "tables_tables")):
        folder = tmp_path / name
        folder.mkdir()
        if name == "page":
            (folder / blocked).mkdir()
        else:
            (folder / blocked).write_text("mine")
        with pytest.raises(UserError, match="Could not write"):
            write_report([evaluation], folder / f"{name}.html")
        assert [path.name for path in folder.iterdir()] == [blocked]


def test_an_older_report_is_replaced_whole(two_models, tmp_path):
    target = tmp_path / "report.html"
    write_report(two_models, target)
    (tmp_path / "report_tables" / "notes.md").write_text("mine")
    paths = write_report(two_models[:1], target, title="Only one")
    assert "<title>Only one</title>" in target.read_text()
    left = {path for path in (tmp_path / "report_tables").iterdir() if path.name != "notes.md"}
    assert left == set(paths[1:]) and (tmp_path / "report_tables" / "notes.md").is_file()
    assert not any(path.stem == "tests" for path in paths)


@pytest.mark.parametrize(
    "evaluations, target, colours, sentence",
    [
        (0, "report.html", "safe", "nothing to report"),
        (1, "report.pdf", "safe", "is an .html file"),
        (1, "nowhere/report.html", "safe", "does not exist"),
        (1, "report.html", "rainbow", "choose safe or paper"),
    ],
)
def test_what_cannot_be_done_is_refused(two_models, tmp_path, evaluations, target, colours, sentence):
    with pytest.raises(UserError, match=sentence):
        write_report(two_models[:evaluations], tmp_path / target, colours=colours)
    assert not any(tmp_path.iterdir())


def test_tables_escape_what_each_format_reserves():
    table = Table(
        "t", "50 % & more", (words("a|b"), Column("x_1", plus_minus(2), ("mean", "sd"))), (("<$#>", (1.25, None)),)
    )
    assert to_markdown(table).splitlines()[2:] == [r"| a\|b | x_1 |", "|---|---:|", "| &lt;$#> | 1.25 |"]
    assert to_csv(table) == "a|b,x_1 mean,x_1 sd\n<$#>,1.25,\n"
    latex = to_latex(table)
    assert r"\caption{50 \% \& more}" in latex and r"\textless{}\$\#\textgreater{} & 1.25 \\" in latex


def test_what_became_of_every_voxel():
    dataset = {"class_labels": {"whole": [1, 2], "core": [2]}, "background_label": 0}
    reference = np.array([[[0, 1, 1, 0, 2, 3]]])
    prediction = np.array([[[0, 1, 2, 1, 0, 1]]])
    kinds = compare_labels(reference, prediction, dataset)
    assert kinds.ravel().tolist() == [NOTHING, FOUND, CONFUSED, ADDED, MISSED, NOTHING]


def test_the_slice_shown_is_the_one_that_tells_most():
    kinds = np.zeros((3, 4, 5), int)
    assert telling_slice(kinds, 0) == 1
    kinds[2, :, :] = FOUND
    assert telling_slice(kinds, 0) == 2
    kinds[0, 1, 1] = MISSED
    assert telling_slice(kinds, 0) == 0
    assert telling_slice(kinds, 2) == 1


def _unescape(line: str) -> list[str]:
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    return [re.sub(r"\\(.)", r"\1", cell).replace("&lt;", "<").replace("&amp;", "&") for cell in cells]


def _pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))
