"""``training.pretrained``: published weights reach a fresh training, and nothing else."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from nnunet_sfma.errors import UserError
from tests.conftest import Workspace
from tests.forked_workers import fork_workers
from tests.trainers.conftest import TRAINERS, read_checkpoint
from tests.trainers.test_faults import kill_when
from tests.trainers.test_training import predict

DANIE = TRAINERS["danie-narrow"]
COMMAND = "import sys; from nnunetv2.{} import {} as run; sys.exit(run())"
TRAIN = [sys.executable, "-c", COMMAND.format("run.run_training", "run_training_entry")]
PREDICT = [sys.executable, "-c", COMMAND.format("inference.predict_from_raw_data", "predict_entry_point")]
WEIGHTS_STAY = ("training.initial_lr=1e-12", "training.weight_decay=0")


def save_maxvit(path: Path, seed: int, **sizes) -> Path:
    """A whole MaxViT of timm with random weights, made for 224 x 224 and three channels."""
    torch.manual_seed(seed)
    model = timm.create_model("maxvit_tiny_tf_224", **sizes)
    with torch.no_grad():
        for parameter in model.parameters():  # tables and norms start out equal for all seeds
            parameter.add_(0.01 * torch.randn_like(parameter))
    save_file(model.state_dict(), path)
    return path


@pytest.fixture
def weights(tmp_path) -> Path:
    sizes = {"embed_dim": (32, 32, 32, 32), "depths": (1, 1, 1, 1), "stem_width": 32, "num_classes": 10}
    return save_maxvit(tmp_path / "first.safetensors", 1, **sizes)


def same_weights(checkpoint: Path, file: Path) -> bool:
    """Whether the MaxViT stream has the file's weights, those aside that are adapted to window and channels."""
    trained, stored = read_checkpoint(checkpoint)["network_weights"], load_file(file)
    compared = []
    for name, value in trained.items():
        if not name.startswith("sap.maxvit.") or re.search("running|batches|table|stem.conv1.weight", name):
            continue
        # the network holds normalisation and activation of timm's layers apart
        original = re.sub(r"(norm\d?)\.0\.", r"\1.", name.removeprefix("sap.maxvit.").replace("stages_", "stages."))
        compared.append(torch.allclose(value, stored[original], rtol=0, atol=1e-6))
    assert len(compared) > 100
    assert len(set(compared)) == 1
    stem = trained["sap.maxvit.stem.conv1.weight"], stored["stem.conv1.weight"].sum(1, keepdim=True)
    assert torch.allclose(*stem, atol=1e-5) == compared[0]
    return compared[0]


def start(workspace: Workspace, command: list[str], *options: str, **variables: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **variables}
    return subprocess.Popen(
        [*command, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
def test_fresh_training_starts_from_the_file_and_nothing_later_needs_it(workspace, plan, train, weights, tmp_path):
    from nnunetv2.model_sharing.model_export import export_pretrained_model

    plans = plan("training.num_epochs=1", f"training.pretrained={weights}", *WEIGHTS_STAY, preset="danie-narrow")
    folder = train(plans, trainer=DANIE)
    assert f"Starting from the pretrained weights {weights}" in next(folder.glob("training_log_*")).read_text()
    assert same_weights(folder / "checkpoint_final.pth", weights)

    weights.unlink()
    train(plans, trainer=DANIE, only_run_validation=True)
    images, target = workspace.raw / workspace.plain / "imagesTr", tmp_path / "predicted"
    no_hub = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "no_cache")}
    model = ("-d", "1", "-c", "2d", "-f", "0", "-tr", DANIE, "-p", plans, "-device", "cpu", "-npp", "1", "-nps", "1")
    process = start(workspace, PREDICT, "-i", str(images), "-o", str(target), *model, **no_hub)
    assert process.communicate()[0] and process.returncode == 0
    assert len(list(target.glob("*.nii.gz"))) == 6
    export_pretrained_model(1, str(tmp_path / "model.zip"), ("2d",), DANIE, plans, (0,))
    assert (tmp_path / "model.zip").stat().st_size > 0


def test_resumed_training_keeps_what_it_had(workspace, plan, train, weights):
    plans = plan("training.num_epochs=2", f"training.pretrained={weights}", *WEIGHTS_STAY, preset="danie-narrow")
    kill_when(start(workspace, TRAIN, "1", "2d", "0", "-tr", DANIE, "-p", plans, "-device", "cpu"), "Epoch 1")
    kept = weights.with_name("kept.safetensors")
    weights.rename(kept)
    folder = train(plans, trainer=DANIE, continue_training=True)
    assert same_weights(folder / "checkpoint_final.pth", kept)


def test_resuming_what_never_left_a_checkpoint_starts_from_the_file(plan, train, weights):
    plans = plan("training.num_epochs=1", f"training.pretrained={weights}", *WEIGHTS_STAY, preset="danie-narrow")
    folder = train(plans, trainer=DANIE, continue_training=True)
    assert same_weights(folder / "checkpoint_final.pth", weights)


def test_weights_that_the_user_names_go_before_published_ones(plan, train, weights, tmp_path):
    still = ("training.num_epochs=1", *WEIGHTS_STAY)
    first = train(plan(*still, f"training.pretrained={weights}", preset="danie-narrow"), trainer=DANIE)
    missing = plan(*still, f"training.pretrained={tmp_path}/missing.pth", name="other", preset="danie-narrow")
    checkpoint = str(first / "checkpoint_final.pth")
    second = train(missing, trainer=DANIE, pretrained_weights=checkpoint)
    assert same_weights(second / "checkpoint_final.pth", weights)


def test_without_the_setting_weights_are_random(plan, train, weights):
    folder = train(plan("training.num_epochs=1", *WEIGHTS_STAY, preset="danie-narrow"), trainer=DANIE)
    assert not same_weights(folder / "checkpoint_final.pth", weights)


@pytest.mark.parametrize(
    "content, sentence",
    [
        (None, "no file"),
        ({"stem.conv1.weight": torch.zeros(32, 3, 3, 3)}, "cannot be loaded: it is not the maxvit_tiny_tf_224"),
        ({"network_weights": {}}, "cannot be loaded: it is not the maxvit_tiny_tf_224"),
    ],
)
def test_file_that_does_not_fit_stops_before_any_epoch(workspace, plan, train, tmp_path, content, sentence):
    file = tmp_path / "other.pth"
    if content is not None:
        torch.save(content, file)
    plans = plan("training.num_epochs=1", f"training.pretrained={file}", preset="danie-narrow")
    with pytest.raises(UserError, match=sentence):
        train(plans, trainer=DANIE)
    assert not list(workspace.results.rglob("*.pth"))


@pytest.fixture
def small_danie(workspace) -> str:
    """Plans for the real DANIE-S that starts from ImageNet."""
    from nnunet_sfma.planning.make_plans import make_plans

    short = ["training.num_epochs=1", "training.iterations_per_epoch=1", "training.val_iterations_per_epoch=1"]
    make_plans(1, "danie-s", [*short, "batch_size=2", "training.test_time_mirroring=false", *WEIGHTS_STAY])
    return "danie-s"


@pytest.mark.parametrize("hub", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_no_hub_and_no_cache_stops_before_any_epoch(workspace, small_danie, tmp_path, hub):
    options = ("1", "2d", "0", "-tr", "nnUNetTrainerDANIE_S", "-p", small_danie, "-device", "cpu")
    process = start(workspace, TRAIN, *options, HF_HOME=str(tmp_path / "cache"), **hub)
    output = process.communicate()[0]
    assert process.returncode == 1
    last = output.rstrip().splitlines()[-1]
    assert "timm/maxvit_tiny_tf_224.in1k are not in the cache" in last and "training.pretrained=none" in last
    assert "Traceback" not in output and "Epoch 0" not in output
    assert not list(workspace.results.rglob("*.pth"))


@pytest.mark.slow
def test_cached_imagenet_weights_need_no_hub(workspace, small_danie, tmp_path):
    snapshot = tmp_path / "cache" / "hub" / "models--timm--maxvit_tiny_tf_224.in1k" / "snapshots" / "1234"
    snapshot.mkdir(parents=True)
    file = save_maxvit(snapshot / "model.safetensors", 1)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("1234")
    options = ("1", "2d", "0", "-tr", "nnUNetTrainerDANIE_S", "-p", small_danie, "-device", "cpu")
    process = start(workspace, TRAIN, *options, HF_HOME=str(tmp_path / "cache"), HF_HUB_OFFLINE="1")
    output = process.communicate()[0]
    assert process.returncode == 0, output
    final = next(workspace.results.rglob("checkpoint_final.pth"))
    assert same_weights(final, file)


def test_default_plans_get_windows_for_their_patch(workspace, plan, train, tmp_path, monkeypatch):
    from nnunet_sfma import presets

    plans = plan("training.num_epochs=1", preset="danie-narrow")
    made = json.loads((workspace.preprocessed / workspace.plain / f"{plans}.json").read_text())
    blocks = made["configurations"]["2d"]
    preset = presets.load_preset("danie-l")
    (tmp_path / "plans").mkdir()
    content = {key: blocks[key] for key in ("architecture", "training")}
    content["architecture"]["arch_kwargs"]["image_size"] = None
    others = {"description": "", "source": "", "paper": "danie", "trainer": preset.trainer, "configuration": {}}
    (tmp_path / "plans" / "danie-l.json").write_text(json.dumps({**content, **others}))
    monkeypatch.setattr(presets, "presets_folder", lambda: tmp_path / "plans")
    fold = train("nnUNetPlans", trainer=DANIE)
    saved = json.loads((fold.parent / "plans.json").read_text())["configurations"]["2d"]
    assert saved["architecture"]["arch_kwargs"]["image_size"] == saved["patch_size"]
    predict(fold.parent, workspace.raw / workspace.plain / "imagesTr", tmp_path / "predicted")
    assert len(list((tmp_path / "predicted").glob("*.nii.gz"))) == 6


def test_patch_changed_by_hand_is_refused(workspace, plan, train):
    plans = plan("training.num_epochs=1", preset="danie-narrow")
    path = workspace.preprocessed / workspace.plain / f"{plans}.json"
    content = json.loads(path.read_text())
    content["configurations"]["2d"]["patch_size"] = [96, 96]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"a patch of \[96, 96\] and a network for .*make them again"):
        train(plans, trainer=DANIE)
    assert not list(workspace.results.iterdir())


def danie_trainer(workspace: Workspace, plans_name: str):
    from nnunet_sfma.trainers.nnUNetTrainerDANIE import nnUNetTrainerDANIE

    folder = workspace.preprocessed / workspace.plain
    plans = json.loads((folder / f"{plans_name}.json").read_text())
    plans["continue_training"] = False
    description = json.loads((folder / "dataset.json").read_text())
    trainer = nnUNetTrainerDANIE(plans, "2d", 0, description, torch.device("cpu"))
    trainer.initialize()
    return trainer


@pytest.mark.parametrize("compiled", [False, True])
def test_weights_reach_the_network_inside_its_wrappers_once(workspace, plan, weights, tmp_path, compiled):
    trainer = danie_trainer(workspace, plan(f"training.pretrained={weights}", preset="danie-narrow"))
    bare = trainer.network
    trainer.network = torch.compile(bare) if compiled else bare
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        trainer.network = DistributedDataParallel(trainer.network)
        trainer.on_train_start()
        stem = bare.sap.maxvit.stem.conv2.weight
        assert torch.equal(stem, load_file(weights)["stem.conv2.weight"])
        with torch.no_grad():
            stem.zero_()
        trainer.on_train_start()
        assert not stem.any()
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("compiled", [False, True])
def test_norms_biases_scalars_and_tables_are_free_of_weight_decay(workspace, plan, compiled):
    trainer = danie_trainer(workspace, plan(preset="danie-narrow"))
    names = {parameter: name for name, parameter in trainer.network.named_parameters()}
    if compiled:
        trainer.network = torch.compile(trainer.network)
    optimizer, _ = trainer.configure_optimizers()
    groups = {g["weight_decay"]: {names[p] for p in g["params"]} for g in optimizer.param_groups}
    assert set(groups) == {0.0, 1e-4}
    assert groups[0.0] | groups[1e-4] == set(names.values())
    layers = (torch.nn.Conv2d, torch.nn.Linear)
    matrices = [module.weight for module in trainer.network.modules() if isinstance(module, layers)]
    assert groups[1e-4] == {names[weight] for weight in matrices if weight.numel() > 1}


def test_every_rank_gets_the_file_of_the_first(tmp_path, monkeypatch):
    fork_workers(monkeypatch)
    torch.multiprocessing.spawn(_ask_on_two_ranks, (tmp_path,), nprocs=2)
    answers = [(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)]
    assert answers == ["from rank 0|no hub on rank 0"] * 2


def _ask_on_two_ranks(rank: int, folder: Path) -> None:
    from nnunet_sfma.trainers.pretrained import on_first_rank

    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    found = on_first_rank(lambda: Path(f"from rank {rank}"))
    try:
        on_first_rank(lambda: _no_hub(rank))
    except UserError as error:
        (folder / f"rank{rank}").write_text(f"{found}|{error}")
    distributed.destroy_process_group()


def _no_hub(rank: int) -> Path:
    raise UserError(f"no hub on rank {rank}")
