"""Rows of one ablation are compared if they were trained alike."""

import pytest

from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.compare import compare
from nnunet_sfma.presets import load_preset
from tests.evaluation.evaluations import make_evaluation


def evaluated(preset: str, ablation: str | None = None, name: str = "", **model) -> dict:
    """An evaluation of a preset's model; ``model`` is changed in it, ``training`` in its training block."""
    made = load_preset(preset, ablation)
    name = name or "-".join(part for part in (preset, ablation) if part)
    evaluation = make_evaluation(f"{made.trainer} / {name} / 2d")
    training = {**made.training, **model.pop("training", {})}
    evaluation["model"] |= {"architecture": made.architecture, "training": training, **made.configuration, **model}
    return evaluation


def test_rows_with_one_presets_recipe_stand_side_by_side():
    rows = ["unet", "unet+sfgu", "unet+sfgu+dmau", "unet+iem", "sgu20-fgu25-channel_sum", None]
    assert len(compare([evaluated("sfmanet-isles2022", row) for row in rows]).names) == len(rows)


def test_rows_that_were_not_trained_alike_are_refused_with_names_and_differences():
    full = evaluated("sfmanet-isles2022")
    row = evaluated("sfmanet-ablation-sfgu", patch_size=[96, 80], batch_size=12, training={"num_epochs": 100})
    with pytest.raises(UserError) as error:
        compare([full, row])
    sentence = str(error.value)
    assert "nnUNetTrainerSFMANet / sfmanet-isles2022 / 2d and nnUNetTrainerSFMANet / sfmanet-ablation-sfgu / 2d" in (
        sentence
    )
    assert "patch_size ([256, 256] and [96, 80]), batch_size (16 and 12), num_epochs (50 and 100)" in sentence
    assert "optimizer" not in sentence and "\n" not in sentence


@pytest.mark.parametrize(
    "training", [{"optimizer": "SGD"}, {"initial_lr": 0.001}, {"augmentation": "none"}, {"slices": "lesion"}]
)
def test_every_part_of_the_recipe_counts(training: dict):
    with pytest.raises(UserError, match=f"rows of one ablation .* differ in {next(iter(training))} "):
        compare([evaluated("sfmanet-atlas", "unet"), evaluated("sfmanet-atlas", "unet+iem", training=training)])


def test_repetitions_and_what_only_saves_time_or_memory_are_no_recipe():
    training = {"seed": 3, "accelerate": False, "activation_checkpointing": True}
    compare([evaluated("sfmanet-atlas", "unet"), evaluated("sfmanet-atlas", "unet+iem", training=training)])


def test_a_row_without_a_maxvit_needs_no_weights_for_one():
    full, without = evaluated("danie-l-acdc", "a5-add"), evaluated("danie-l-acdc", "a2-no-self-attention")
    assert full["model"]["training"]["pretrained"] != without["model"]["training"]["pretrained"]
    compare([full, without])
    scratch = evaluated("danie-l-acdc", "a1-no-hierarchical", training={"pretrained": "none"})
    with pytest.raises(UserError, match=r"differ in pretrained \(imagenet and none\)"):
        compare([full, scratch])


def test_the_networks_image_size_is_that_of_the_patch():
    whole, smaller = evaluated("danie-l-acdc"), evaluated("danie-l-acdc", name="smaller", patch_size=[64, 64])
    for evaluation in (whole, smaller):
        evaluation["model"]["architecture"]["arch_kwargs"]["image_size"] = evaluation["model"]["patch_size"]
    compare([whole, smaller])
    smaller["model"]["architecture"]["arch_kwargs"]["fusion"] = "add"
    with pytest.raises(UserError, match="differ in patch_size"):
        compare([whole, smaller])


def test_plans_of_before_are_at_the_networks_defaults():
    then, row = evaluated("sfmanet-isles2022"), evaluated("sfmanet-isles2022", "unet+iem", batch_size=2)
    for key in ("sgu_weight", "sgu_gate", "sgu_beta", "iem_attention", "iem_attention_factor"):
        del then["model"]["architecture"]["arch_kwargs"][key]
    with pytest.raises(UserError, match="differ in batch_size"):
        compare([then, row])


def test_other_comparisons_stay_possible():
    sfmanet = evaluated("sfmanet-isles2022")
    others = [
        evaluated("sfmanet-nnunet", patch_size=[96, 80]),  # the same network by another recipe
        evaluated("sfmanet-r1", patch_size=[96, 80]),  # another reading
        evaluated("sfmanet-narrow", patch_size=[96, 80]),  # other widths
        evaluated("danie-l-acdc"),
        make_evaluation("nnUNetTrainer / nnUNetPlans / 2d"),
        make_evaluation("predictions", folds=0),
    ]
    others[-2]["model"] |= {"training": None, "architecture": {"network_class_name": "dynamic.PlainConvUNet"}}
    for other in others:
        other["split"] = sfmanet["split"]
        for case, ours in zip(other["cases"], sfmanet["cases"], strict=True):
            case["fold"] = ours["fold"]
        compare([sfmanet, other])


@pytest.mark.parametrize(
    "architecture",
    [
        {},
        {"network_class_name": "nnunet_sfma.networks.sfmanet.model.Else", "arch_kwargs": {"sfgu": [1]}},
        {"network_class_name": ["x"], "arch_kwargs": {"x": {}}},
        {"network_class_name": "nnunet_sfma.networks.danie.model.DANIE", "arch_kwargs": "none"},
    ],
)
def test_a_file_with_another_architecture_ends_in_no_trace(architecture: dict):
    odd = evaluated("sfmanet-isles2022", name="odd", batch_size=3)
    odd["model"]["architecture"] = architecture
    compare([evaluated("sfmanet-isles2022"), odd])
    compare([odd, evaluated("sfmanet-isles2022", "unet")])


def test_what_a_file_says_stays_in_one_line():
    odd = evaluated("sfmanet-isles2022", "unet", training={"a\nb": "c\nd" * 1000})
    with pytest.raises(UserError, match=r"differ in a b \(nothing and c dc d") as error:
        compare([evaluated("sfmanet-isles2022"), odd])
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
