"""The papers' tables as data: what they print, and what is known of it."""

import pytest

from dataset_conversion.release import load_release, release_names
from nnunet_sfma.evaluation.metrics import METRICS
from nnunet_sfma.evaluation.published import PROTOCOL, Table, load_published, published_releases, tables_for
from nnunet_sfma.presets import load_preset, preset_names

PEERS = {"peer-unet", "peer-attention-unet", "peer-unetpp", "peer-nnunet"}
TABLES = [table for release in published_releases() for table in tables_for(release)]
NAMES = [f"{table.release}, {table.name}" for table in TABLES]


def table(release: str, name: str) -> Table:
    return next(each for each in tables_for(release) if each.name == name)


def row(release: str, name: str, method: str):
    return next(each for each in table(release, name).rows if each.method == method)


PRINTED = [
    ("atlas", "SFMANet, Table 1", "SFMANet", (0.8365, 0.9293, 0.9372, 0.7408, 0.7729)),
    ("atlas", "SFMANet, Table 1", "SAN-Net", (0.4301, None, 0.4316, 0.4301, None)),
    ("atlas", "SFMANet, Table 1", "MDA-Net", (0.5662, 0.6436, 0.5945, None, None)),
    ("atlas", "SFMANet, Table 1", "HmsU-Net", (0.7105, 0.9016, 0.9148, 0.7005, 0.6373)),
    ("isles2022", "SFMANet, Table 2", "SFMANet", (0.7767, 0.8784, 0.9071, 0.7160, 0.6911)),
    ("isles2022", "SFMANet, Table 2", "Polyp_PVT", (0.7000, 0.7054, 0.7318, 0.6888, 0.5802)),
    ("isles2022", "SFMANet, Table 3", "UNet + SFGU", (0.7359, 0.8481, 0.8903, 0.6970, 0.6479)),
    ("isles2022", "SFMANet, Table 3", "UNet + IEM", (0.7336, 0.8637, 0.8390, 0.7309, 0.6297)),
    ("isles2022", "SFMANet, Table 3", "UNet + SFGU + IEM", (0.7660, 0.8511, 0.9077, 0.7008, 0.6797)),
    ("isles2022", "SFMANet, Table 3", "UNet + SFGU + DMAU", (0.7616, 0.8620, 0.8913, 0.6885, 0.6752)),
    ("atlas", "SFMANet, Table 4", "UNet", (0.6609, 0.6242, 0.7382, 0.6518, 0.5632)),
    ("atlas", "SFMANet, Table 4", "UNet + SFGU + DMAU", (0.8313, 0.9245, 0.9416, 0.7351, 0.7452)),
    ("atlas", "SFMANet, Table 5", "SFMANet", (0.8365, 36.92, 94.77, 124.14)),
    ("atlas", "SFMANet, Table 5", "MDA-Net", (0.5662, 29.00, None, 470.04)),
    ("isles2022", "SFMANet, Table 6", "SRU_TH 0.2, CRU_α 0.75", (0.7514, 0.8453, 0.8890, 0.6922, 0.6607)),
    ("isles2022", "SFMANet, Table 6", "SRU_TH 0.8, CRU_α 0.25", (0.7443, 0.8486, 0.9104, 0.6745, 0.6589)),
    (
        "synapse",
        "DANIE, Table 1",
        "DANIE-L",
        (85.47, 76.60, 2.76, 26.55, 88.17, 77.80, 88.59, 84.68, 94.84, 71.94, 91.95, 85.82),
    ),
    (
        "synapse",
        "DANIE, Table 1",
        "DANIE-S",
        (84.21, 75.42, 3.65, 13.29, 87.31, 73.11, 85.29, 83.86, 95.20, 70.20, 92.85, 85.90),
    ),
    ("acdc", "DANIE, Table 2", "DANIE-L", (92.36, 90.12, 90.99, 96.00)),
    ("acdc", "DANIE, Table 2", "DANIE-S", (91.96, 89.61, 90.37, 95.89)),
    ("acdc", "DANIE, Table 2", "nnUnet", (91.61, 90.24, 89.24, 95.65)),
    ("isic2017", "DANIE, Table 3", "DANIE-L", (26.55, 94.25, 94.10, 98.61, 97.72)),
    ("isic2018", "DANIE, Table 3", "DANIE-L", (26.55, 93.47, 94.17, 97.27, 96.43)),
    ("isic2018", "DANIE, Table 3", "DANIE-S", (13.29, 93.32, 95.34, 96.63, 96.28)),
    ("glas", "DANIE, Table 4", "DANIE-L", (26.55, 92.65, 86.28)),
    ("glas", "DANIE, Table 4", "UNet++", (138.66, 90.05, 82.80)),
    ("synapse", "DANIE, Table 5", "A.2 DANIE w/o self-attention", (10.98, 74.06)),
    ("synapse", "DANIE, Table 6", "B.2 Spatial + Channel, Dcal", (82.22,)),
    ("acdc", "DANIE, Table 6", "B.3 Channel + Spatial", (90.83,)),
    ("synapse", "DANIE, Table 7", "C.5 Joint Preservation", (26.55, 85.47)),
]


@pytest.mark.parametrize(("release", "name", "method", "values"), PRINTED)
def test_rows_are_as_printed(release, name, method, values):
    assert row(release, name, method).values == values


@pytest.mark.parametrize(
    ("paper", "rows", "count", "total"),
    [("sfmanet", [13, 14, 6, 6, 13, 9], 285, 7058.9633), ("danie", [11, 11, 11, 11, 5, 4, 5], 336, 25723.42)],
)
def test_every_printed_number_is_there(paper, rows, count, total):
    """Counted and added up in the papers' text, line by line."""
    tables = load_published()[paper]["tables"]
    numbers = [value for each in tables for line in each["rows"] for value in line["values"] if value is not None]
    assert [len(each["rows"]) for each in tables] == rows
    assert (len(numbers), round(sum(numbers), 4)) == (count, total)
    assert all(len(line["values"]) == len(each["columns"]) for each in tables for line in each["rows"])


def test_columns_of_the_damaged_header_agree_with_the_text():
    """The differences to TransUNet and CASCADE that the paper quotes, and the mean of the eight organs."""
    columns = [column.title for column in table("synapse", "DANIE, Table 1").columns]
    ours, transunet, cascade = (
        dict(zip(columns, row("synapse", "DANIE, Table 1", method).values, strict=True))
        for method in ("DANIE-L", "TransUNet", "CASCADE")
    )
    assert [round(ours[key] - transunet[key], 2) for key in ("DICE", "mIoU", "ASD")] == [7.99, 9.28, -1.9]
    assert (ours["GFLOPs"], cascade["GFLOPs"]) == (26.55, 44.83)
    for line in table("synapse", "DANIE, Table 1").rows:
        assert line.values[0] == pytest.approx(sum(line.values[4:]) / 8, abs=0.01)


@pytest.mark.parametrize("published", TABLES, ids=NAMES)
def test_tables_name_source_protocol_and_known_metrics(published):
    assert published.citation and published.rows
    assert {column.metric for column in published.columns} - {None} <= set(METRICS)
    assert {column.class_name for column in published.columns} - {None} <= set(published.classes)
    assert all(column.scale in (1, 100) and column.decimals in (2, 4) for column in published.columns)
    keys = [item.key for item in published.protocol]
    assert keys == [key for key in PROTOCOL if key in keys]
    assert {"split", "level", "folds", "selection", "resizing", "pretraining", "average", "empty"} <= set(keys)
    assert all(item.text.endswith(".") for item in published.protocol)
    measured = {column.metric for column in published.columns}
    assert ("miou" not in measured or "miou" in keys) and ("asd" not in measured or "distances" in keys)


def test_every_data_set_has_tables_with_the_converters_classes():
    assert published_releases() == release_names()
    for release in release_names():
        maps = [set(labels) - {"background"} for labels in load_release(release).label_maps.values()]
        assert tables_for(release)
        assert all(set(each.classes) in maps for each in tables_for(release))


def test_a_data_set_of_no_paper_has_no_table():
    assert tables_for("hippocampus") == []


@pytest.mark.parametrize("published", TABLES, ids=NAMES)
def test_rows_name_presets_of_their_paper(published):
    named = {line.preset for line in published.rows} - {None}
    assert named <= set(preset_names())
    assert {load_preset(name).paper for name in named - PEERS} == {published.paper}


def test_methods_that_no_library_keeps_are_published_numbers_only():
    presets = {line.method: line.preset for each in TABLES for line in each.rows}
    assert {presets[method] for method in ("TransUNet", "SwinUNet", "Acc_unet", "CASCADE")} == {None}
    assert {presets[method] for method in ("Unet", "AttentionUNet", "AttnUnet", "UNet++", "nnUnet")} == PEERS


def test_what_does_not_fit_is_remarked_and_not_corrected():
    assert "highest F1" in row("isles2022", "SFMANet, Table 3", "UNet + SFGU + IEM").remarks[0]
    disagreeing = [row("atlas", f"SFMANet, Table {number}", "HmsU-Net") for number in (1, 5)]
    assert [line.values[0] for line in disagreeing] == [0.7105, 0.6970]
    assert all("another DSC" in line.remarks[0] for line in disagreeing)
    assert "Table 2" in " ".join(table("atlas", "SFMANet, Table 1").remarks)
    assert "90.17" in " ".join(row("acdc", "DANIE, Table 2", "DANIE-L").remarks)
    for number in (1, 4, 5):
        assert any("comes from slices" in text for text in table("atlas", f"SFMANet, Table {number}").remarks)
    for number, release in ((1, "atlas"), (2, "isles2022"), (3, "isles2022"), (4, "atlas"), (6, "isles2022")):
        assert any("cannot be recovered" in text for text in table(release, f"SFMANet, Table {number}").remarks)


def printed(release: str, name: str) -> dict[str, dict[str, float | None]]:
    """Method, then column, F1 under one title."""
    each = table(release, name)
    titles = [column.title.replace("F1score", "F1 score") for column in each.columns]
    return {row.method: dict(zip(titles, row.values, strict=True)) for row in each.rows}


def iou(dice: float) -> float:
    """Convex, so a mean of it is never below that of the mean Dice."""
    return dice / (2 - dice)


def test_the_background_cannot_count_in_the_miou_of_sfmanets_tables():
    places = [("atlas", 1), ("isles2022", 2), ("isles2022", 3), ("atlas", 4), ("isles2022", 6)]
    rows = [row for release, number in places for row in printed(release, f"SFMANet, Table {number}").values()]
    rows = [row for row in rows if row["MIoU"] is not None]
    assert len(rows) == 45
    assert all(iou(row["DSC"]) <= row["MIoU"] <= row["DSC"] for row in rows), "foreground alone is possible"
    assert 0.84 < max(2 * row["MIoU"] - iou(row["DSC"]) for row in rows) < 0.85, "what is left for the background"
    (said,) = (item for item in tables_for("atlas")[0].protocol if item.key == "miou")
    assert "each of the 45 printed rows" in said.text and "below 0.85" in said.text


def test_rows_with_an_miou_above_their_f1_are_those_that_are_remarked():
    def above(number: int) -> list[str]:
        rows = printed("atlas", f"SFMANet, Table {number}").items()
        return [method for method, row in rows if row["F1 score"] and row["MIoU"] and row["MIoU"] > row["F1 score"]]

    assert above(1) == ["SwinUNet", "TransUNet", "SFMANet"]
    assert len(above(4)) == 4 and all("SFGU" in method for method in above(4))
    remarks = [" ".join(table("atlas", f"SFMANet, Table {number}").remarks) for number in (1, 4)]
    assert "MIoU is above F1 in the rows of SwinUNet, TransUNet and SFMANet" in remarks[0]
    assert "MIoU is above F1 in four rows, all that have SFGU" in remarks[1]


def test_an_miou_below_what_the_printed_dices_allow_is_remarked():
    titles = [column.title for column in table("synapse", "DANIE, Table 1").columns]
    impossible = {
        method: 100 * least
        for method, row in printed("synapse", "DANIE, Table 1").items()
        if (least := sum(iou((row[organ] - 0.005) / 100) for organ in titles[4:]) / 8) > (row["mIoU"] + 0.005) / 100
    }
    assert {method: round(least, 2) for method, least in impossible.items()} == {"SwinUNet": 66.94}
    assert "66.94" in row("synapse", "DANIE, Table 1", "SwinUNet").remarks[0]


def test_means_of_acdc_that_their_classes_do_not_give_are_remarked():
    for line in table("acdc", "DANIE, Table 2").rows:
        mean = round(sum(line.values[1:]) / 3, 2)
        said = any(f"The mean of its three printed classes is {mean:.2f}" in text for text in line.remarks)
        assert said == (mean != line.values[0]), line.method
    assert round((90.17 + 90.99 + 96.00) / 3, 2) == 92.39


def test_the_same_network_has_the_same_numbers_wherever_it_is_printed():
    def same(*places):
        assert len({row(*place).values[-2:] for place in places}) == 1

    same(
        ("isles2022", "SFMANet, Table 2", "SFMANet"),
        ("isles2022", "SFMANet, Table 3", "UNet + SFGU + IEM + DMAU"),
        ("isles2022", "SFMANet, Table 6", "SRU_TH 0.5, CRU_α 0.50"),
    )
    same(("atlas", "SFMANet, Table 1", "SFMANet"), ("atlas", "SFMANet, Table 4", "UNet + SFGU + IEM + DMAU"))
    same(("synapse", "DANIE, Table 5", "A.5 DANIE"), ("synapse", "DANIE, Table 7", "C.2 Add"))


def test_costs_in_the_cost_table_are_those_of_the_tables():
    printed = {line.preset: line.values for each in TABLES for line in each.rows if each.columns[0].title == "GFLOPs"}
    costs = load_published()["danie"]["complexity"]["rows"]
    assert all(printed[name.lower()][0] == costs[name]["flops_billions"] for name in ("DANIE-L", "DANIE-S"))
    by_index = {
        line.method[:3]: line.values[0] for number in (5, 7) for line in table("synapse", f"DANIE, Table {number}").rows
    }
    assert {name: entry["flops_billions"] for name, entry in costs.items() if "." in name} == by_index
    for method, name in (("Unet", "U-Net"), ("SFMANet", "SFMANet")):
        entry = load_published()["sfmanet"]["complexity"]["rows"][name]
        assert row("atlas", "SFMANet, Table 5", method).values[1:] == tuple(entry.values())
