"""Evaluations beside each other and beside the papers' tables."""

import json

import pytest

from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.compare import compare, to_json
from nnunet_sfma.evaluation.comparison_text import format_comparison
from nnunet_sfma.evaluation.published import PROTOCOL, tables_for
from nnunet_sfma.presets import load_preset
from tests.evaluation.evaluations import make_evaluation, set_scores

OURS, NNUNET = "nnUNetTrainerSFMANet / sfmanet / 2d", "nnUNetTrainer / nnUNetPlans / 2d"
ORGANS = ("aorta", "gallbladder", "left kidney", "right kidney", "liver", "pancreas", "spleen", "stomach")


def line_of(text: str, start: str) -> list[str]:
    """The cells of the first line of a Markdown table that starts so."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def section(text: str, heading: str) -> str:
    return text.split(heading)[1].split("\n## ")[0]


def test_ours_stand_below_the_published_rows_in_the_same_columns():
    evaluation = set_scores(make_evaluation(OURS, release="isles2022"), "dice", [0.7, 0.8] * 5)
    text = format_comparison(compare([evaluation]))
    table = section(text, "## SFMANet, Table 2")
    assert line_of(table, "method") == ["method", "preset", "DSC", "Precision", "Recall", "F1score", "MIoU"]
    assert line_of(table, "SFMANet [")[1:] == ["sfmanet", "0.7767", "0.8784", "0.9071", "0.7160", "0.6911"]
    assert line_of(table, "MDA-Net")[1:] == ["", "0.7044", "0.7530", "0.7222", "0.7368", "-"]
    ours = line_of(table, f"**{OURS}**")
    assert ours[2].startswith("0.7500 ± ") and all("±" in cell for cell in ours[2:])
    assert "mean ± standard deviation over 5 folds" in table


def test_all_tables_of_the_data_set_are_there_the_main_one_first():
    comparison = compare([make_evaluation(release="atlas")])
    assert [each.table.name for each in comparison.published] == [f"SFMANet, Table {n}" for n in (1, 4, 5)]
    assert [each.table.release for each in compare([make_evaluation(release="isic2018")]).published] == ["isic2018"]


def test_spread_is_over_folds_or_over_cases():
    values = [0.5, 0.9, 0.9, 0.9, 0.9] * 2
    folds = compare([set_scores(make_evaluation(), "dice", values)])
    plain = compare([set_scores(make_evaluation("predictions", folds=0), "dice", values)])
    assert (folds.spreads, plain.spreads) == (("5 folds",), ("10 cases",))
    index = [entry["key"] for entry in folds.metrics].index("dice")
    assert folds.ours[0].spreads[index].sd == pytest.approx(0.1789, abs=1e-4)
    assert plain.ours[0].spreads[index].sd == pytest.approx(0.1687, abs=1e-4)
    assert "| 10 cases |" in format_comparison(plain)


def test_a_subset_of_folds_is_called_one():
    evaluation = make_evaluation()
    evaluation["subset"] = True
    assert "5 folds, not all of the split" in format_comparison(compare([evaluation]))


def test_tables_in_percent_scale_ratios_but_not_distances():
    evaluation = make_evaluation("nnUNetTrainerDANIE / danie-l / 2d", classes=ORGANS, release="synapse")
    for metric, value in (("dice", 0.8), ("asd", 2.5)):
        set_scores(evaluation, metric, [value] * 10)
    table = section(format_comparison(compare([evaluation])), "## DANIE, Table 1")
    ours = dict(zip(line_of(table, "method"), line_of(table, "**nnUNetTrainerDANIE"), strict=True))
    assert (ours["DICE"], ours["SM"], ours["ASD"]) == ("80.00 ± 0.00", "80.00 ± 0.00", "2.50 ± 0.00")
    assert ours["GFLOPs"] == ""


def test_classes_find_their_columns_by_name_and_a_missing_one_stays_empty():
    evaluation = make_evaluation(classes=("LV", "RV"), release="acdc")
    evaluation["summary"]["classes"]["LV"]["dice"]["mean_of_folds"] = 0.91
    comparison = compare([evaluation])
    table = section(format_comparison(comparison), "## DANIE, Table 2")
    ours = dict(zip(line_of(table, "method"), line_of(table, "**nnUNet"), strict=True))
    assert ours["LV"].startswith("91.00") and ours["RV"] and not ours["Myo"]
    # a mean over other classes than the table's may not stand in its column
    assert not ours["mDICE"]
    assert "over LV, RV, the table's over RV, MYO, LV" in table


def test_a_single_class_may_have_any_name():
    text = format_comparison(compare([make_evaluation(classes=("stroke",))], release="atlas"))
    assert line_of(section(text, "## SFMANet, Table 1"), "**nnUNet")[2]


def test_ours_are_shown_by_class_where_there_are_several():
    lines = compare([make_evaluation(classes=("one", "two"))]).ours
    assert [line.class_name for line in lines] == ["one", "two", "mean"]
    assert [line.class_name for line in compare([make_evaluation()]).ours] == ["mean"]


def test_published_numbers_without_a_network_here_are_called_so():
    text = format_comparison(compare([make_evaluation(release="isles2022")]))
    assert "published numbers only" in section(text, "## SFMANet, Table 2")
    assert "published numbers only" not in section(text, "## SFMANet, Table 3")


def test_remarks_stand_below_the_table_they_belong_to():
    text = format_comparison(compare([make_evaluation(release="isles2022")]))
    table = section(text, "## SFMANet, Table 3")
    assert line_of(table, "UNet + SFGU + IEM [1]")[4] == "0.9077"
    assert "[1] The text quotes its Recall, 0.9077, as the highest F1." in table
    assert "cannot be recovered" in table


def test_two_of_ours_are_tested_in_the_metrics_of_the_tables():
    evaluations = [
        make_evaluation(name, release="acdc", classes=("RV", "MYO", "LV"), quality=quality)
        for name, quality in ((OURS, 0.8), (NNUNET, 0.5))
    ]
    comparison = compare(evaluations)
    assert {test.metric for test in comparison.tests} == {"dice"}
    assert [test.class_name for test in comparison.tests] == ["RV", "MYO", "LV", "mean"]
    table = section(format_comparison(comparison), "## Differences between ours")
    cells = line_of(table, f"{OURS} - {NNUNET}")
    assert cells[1:4] == ["Dice", "RV", "10"] and cells[4].startswith("+") and "Holm" in table


def test_a_single_evaluation_is_not_tested():
    comparison = compare([make_evaluation()])
    assert comparison.tests == ()
    assert "## Differences" not in format_comparison(comparison)


def test_the_user_chooses_metrics():
    comparison = compare([make_evaluation(OURS), make_evaluation(NNUNET)], metrics=["hd95", "volume_difference"])
    assert [entry["key"] for entry in comparison.metrics] == ["hd95", "volume_difference"]
    assert {test.metric for test in comparison.tests} == {"hd95", "volume_difference"}
    assert "HD95 (mm) | Volume difference (ml)" in format_comparison(comparison)


def test_without_tables_ours_stand_alone():
    comparison = compare([make_evaluation(OURS), make_evaluation(NNUNET)])
    assert (comparison.published, comparison.protocol) == ((), ())
    assert {test.metric for test in comparison.tests} == {"dice", "hd95"}
    assert "No table of the papers covers this data set" in format_comparison(comparison)


def test_the_release_of_any_evaluation_or_of_the_user_chooses_the_tables():
    plain, known = make_evaluation(OURS), make_evaluation(NNUNET, release="glas")
    assert compare([plain, known]).release == "glas"
    assert compare([plain], release="atlas").published[0].table.release == "atlas"


def test_protocol_is_spelled_out_item_by_item():
    comparison = compare([make_evaluation(release="synapse", classes=ORGANS)])
    items = tables_for("synapse")[0].protocol
    assert [line.title for line in comparison.protocol] == [item.title for item in items]
    protocol = section(format_comparison(comparison), "## What the numbers rest on")
    for item in items:
        assert f"**{item.title}.** Paper ({'stated' if item.stated else 'not stated'}): {item.text}" in protocol
    assert protocol.count("Ours: ") == len(items)


def with_network(name: str, **switches) -> dict:
    evaluation = make_evaluation(name)
    kwargs = {"features_per_stage": [64, 128, 256, 512, 1024], **switches}
    network = {"network_class_name": "nnunet_sfma.networks.sfmanet.model.SFMANet", "arch_kwargs": kwargs}
    evaluation["model"]["architecture"] = network
    return evaluation


@pytest.mark.parametrize("slices, departs", [(None, True), ("lesion", True), ("all", False)])
def test_slices_that_a_conversion_cut_as_the_paper_does_are_no_departure(slices, departs):
    evaluation = make_evaluation(OURS, release="atlas")
    evaluation["model"]["architecture"] = load_preset("sfmanet-atlas").architecture
    if slices:
        evaluation["dataset"]["release_options"] = {"paper_slices": slices, "axis": "x", "size": 256}
    assert ("slices" in {each.entry.key for each in compare([evaluation]).departures}) == departs


def test_departures_are_those_of_the_models_compared():
    literal = with_network("nnUNetTrainerSFMANet / literal / 2d", fgu_rescale=False)
    comparison = compare([with_network(OURS), literal])
    departures = section(format_comparison(comparison), "## Where the networks depart from their papers")
    assert "- **SFMANet, equation 13** (nnUNetTrainerSFMANet / sfmanet / 2d). Paper: Softmax weights" in departures
    assert "As printed: architecture.fgu_rescale=false." in departures
    both = next(each for each in comparison.departures if each.entry.key == "eq16-input")
    assert len(both.names) == 2
    assert "DANIE" not in departures and not compare([make_evaluation()]).departures


def protocol_of(evaluation: dict, key: str) -> str:
    lines = {line.title: line.ours[0] for line in compare([evaluation]).protocol}
    return lines[PROTOCOL[key]]


def test_our_side_of_the_protocol():
    evaluation = make_evaluation(release="isles2022")
    assert protocol_of(evaluation, "split") == "five-fold, seed 12345 (five folds by subject), sha256 0123456789ab"
    assert protocol_of(evaluation, "level") == "by subject: nobody is in two folds"
    assert "over 5 folds" in protocol_of(evaluation, "folds")
    assert "validation cases" in protocol_of(evaluation, "selection")
    assert protocol_of(evaluation, "slices") == "slices along axis 0 of (z, y, x), trained on all"
    assert protocol_of(evaluation, "resizing") == "original size; patches of 256 x 256 pixels at spacing 0.9 x 0.9"
    assert protocol_of(evaluation, "pretraining") == "none, by the plan"
    assert "50 epochs, batch size 16, Adam" in protocol_of(evaluation, "training")
    assert protocol_of(evaluation, "network") == "SFMANet, plans sfmanet, trainer nnUNetTrainerSFMANet"
    assert protocol_of(evaluation, "empty") == evaluation["convention_texts"]["empty"]


def test_protocol_of_the_papers_slices():
    evaluation = make_evaluation(release="isles2022")
    evaluation["dataset"]["release_options"] = {"paper_slices": "lesion", "axis": "x", "size": 256}
    assert "cut along X by the conversion, lesion of them" in protocol_of(evaluation, "slices")
    assert "resized to 256 x 256 by the conversion" in protocol_of(evaluation, "resizing")


@pytest.mark.parametrize(
    ("options", "shape", "scored"),
    [
        ({"size": 256}, [1, 256, 256], "at that size"),
        ({"size": 256}, [9, 256, 256], "at that size"),
        ({"size": 256}, [1, 522, 775], "at the original size"),
        ({"size": 256}, [9, 256, 216], "at the original size"),
        ({"size": 256, "axis": "x", "paper_slices": "all"}, [1, 256, 256], "at that size"),
        ({"size": 256, "axis": "x", "paper_slices": "all"}, [189, 256, 256], "at the original size"),
    ],
)
def test_protocol_says_whether_masks_were_brought_back(options, shape, scored):
    evaluation = make_evaluation(release="acdc")
    evaluation["dataset"]["release_options"] = options
    for case in evaluation["cases"]:
        case["shape"] = shape
    assert f"resized to 256 x 256 by the conversion and scored {scored};" in protocol_of(evaluation, "resizing")


def test_protocol_of_nnunets_own_trainer_and_of_a_plain_folder():
    stock = make_evaluation(NNUNET, release="isles2022")
    stock["model"]["training"] = None
    assert protocol_of(stock, "training") == "nnU-Net's recipe of nnUNetTrainer, batch size 16"
    # predictions with plans.json beside them
    stock["model"]["trainer"] = None
    assert protocol_of(stock, "network") == "PlainConvUNet, plans nnUNetPlans, trainer not recorded"
    plain = make_evaluation("predictions", folds=0, release="isles2022")
    assert {protocol_of(plain, key) for key in ("split", "selection", "training", "network", "pretraining")} == {
        "not recorded"
    }
    assert protocol_of(plain, "folds") == "one division"


def test_a_subject_in_two_folds_is_noticed():
    evaluation = make_evaluation(release="atlas", cases_per_subject=2)
    assert protocol_of(evaluation, "level") == "by subject: nobody is in two folds"
    evaluation["cases"][1]["fold"] = 4
    assert protocol_of(evaluation, "level") == "by case: 1 subjects are in several folds"


def test_what_models_do_differently_is_said_for_each():
    ours, stock = make_evaluation(OURS, release="atlas"), make_evaluation(NNUNET, release="atlas")
    stock["model"]["training"] = None
    protocol = section(format_comparison(compare([ours, stock])), "## What the numbers rest on")
    assert f"  {NNUNET}: nnU-Net's recipe of nnUNetTrainer, batch size 16." in protocol
    assert f"  {OURS}: 50 epochs" in protocol


def test_json_holds_everything():
    comparison = compare([make_evaluation(OURS, release="glas"), make_evaluation(NNUNET, release="glas")])
    entries = json.loads(to_json(comparison))
    assert entries["names"] == [OURS, NNUNET]
    assert entries["published"][0]["table"]["rows"][-1]["values"] == [26.55, 92.65, 86.28]
    assert entries["published"][0]["ours"][0][1]["mean"] == pytest.approx(
        100 * entries["ours"][0]["spreads"][0]["mean"]
    )
    assert {test["metric"] for test in entries["tests"]} == {"dice", "miou"}
    assert entries["protocol"][0]["ours"]


def refused(*arguments, **options) -> str:
    with pytest.raises(UserError) as error:
        compare(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_nothing_is_averaged_over_an_evaluation_that_is_not_complete():
    evaluation = make_evaluation(OURS)
    evaluation["missing"] = ["Fold 4 is not trained: run nnUNetv2_train 501 2d 4."]
    assert refused([evaluation]) == f"{OURS} is not complete: Fold 4 is not trained: run nnUNetv2_train 501 2d 4."


def test_what_cannot_be_compared_is_refused():
    assert "differ in" in refused([make_evaluation(OURS), make_evaluation(NNUNET, cases=5)])


def test_unknown_release_and_metric():
    assert "choose one of acdc, atlas" in refused([make_evaluation()], release="brats")
    assert "There is no metric 'dise' in these evaluations: choose of dice, iou" in refused(
        [make_evaluation()], metrics=["dise"]
    )
