"""Batch normalisation over several GPUs: PyTorch's numbers, in one graph."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as of_nnunet  # noqa: N813  a module
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from nnunet_sfma.networks.accelerate import accelerate
from nnunet_sfma.presets import load_preset
from nnunet_sfma.trainers.complete_plans import build_network, fit_to_patch
from nnunet_sfma.trainers.synchronised_norm import SynchronisedBatchNorm, synchronise_in_one_graph
from tests.trainers.conftest import TRAINER

HERE = Path(__file__).parent
SMALLER = {
    "sfmanet": {"features_per_stage": [32, 64], "iem_stages": 1},
    "danie-s": {"features_per_stage": [32, 32, 32, 32], "blocks_per_stage": 1},
}


@pytest.fixture
def one_rank(tmp_path):
    """A group of this process alone, and nothing compiled before."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1)
    torch.compiler.reset()
    yield
    torch.compiler.reset()
    dist.destroy_process_group()


def converted(preset: str) -> nn.Module:
    block = fit_to_patch(load_preset(preset).architecture, [64, 64])
    block["arch_kwargs"] |= SMALLER[preset]
    network = nn.SyncBatchNorm.convert_sync_batchnorm(accelerate(build_network(block, 1, 2)))
    return synchronise_in_one_graph(network)


@pytest.mark.parametrize("preset", ["sfmanet", pytest.param("danie-s", marks=pytest.mark.slow)])
def test_network_stays_one_graph(one_rank, preset):
    network, graphs = converted(preset), CompileCounter()
    names = set(network.state_dict())
    assert any(isinstance(module, SynchronisedBatchNorm) for module in network.modules())
    compiled = torch.compile(network, backend=graphs, fullgraph=True)
    for _ in range(2):
        compiled(torch.randn(2, 1, 64, 64))
    assert graphs.frame_count == 1
    assert set(network.state_dict()) == names


def _compiled_for_several_gpus(network: nn.Module) -> nn.Module:
    """As nnU-Net does it; buckets that are small for its small gradients cut the graph as they do in large networks."""
    return DistributedDataParallel(torch.compile(network, backend="aot_eager"), bucket_cap_mb=1)


def test_compiled_inside_the_wrapper_of_several_gpus_learns_the_same(one_rank):
    torch.manual_seed(0)
    images, gradients = torch.randn(2, 1, 64, 64).double(), []
    for wrap in (lambda plain: plain, _compiled_for_several_gpus):
        torch.manual_seed(0)
        network = converted("sfmanet").double()
        wrap(network)(images).square().mean().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    torch.testing.assert_close(*gradients)


class OnTheCPU(DistributedDataParallel):
    """Takes PyTorch's own synchronised normalisation, which works on GPUs only, as it does there."""

    def _passing_sync_batchnorm_handle(self, module):
        pass


@pytest.mark.parametrize("compiles, norm", [(True, SynchronisedBatchNorm), (False, nn.SyncBatchNorm)])
def test_trainer_takes_it_where_nnunet_compiles(plan, one_rank, monkeypatch, compiles, norm):
    trainer = get_trainer_from_args("1", "2d", 0, TRAINER, plan("training.precision=fp32"), device=torch.device("cpu"))
    trainer.device = torch.device("cpu")
    monkeypatch.setattr(trainer, "_do_i_compile", lambda: compiles)
    monkeypatch.setattr(of_nnunet, "DDP", lambda network, device_ids: OnTheCPU(network))
    trainer.initialize()
    norms = [module for module in trainer.network.modules() if isinstance(module, _BatchNorm)]
    assert norms and {type(module) for module in norms} == {norm}


def test_halves_on_two_ranks_are_the_whole_batch():
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
    subprocess.run([sys.executable, HERE / "halves_of_a_batch.py"], env=environment, check=True, timeout=300)
