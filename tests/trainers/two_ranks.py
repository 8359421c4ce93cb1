"""Two processes that train one fold as ``nnUNetv2_train -num_gpus 2`` does, on the CPU: run by the tests.

nnU-Net's own function insists on CUDA and NCCL. What is set here instead of its choices: the group talks over gloo, the
trainers' device is the CPU, and BatchNorm is synchronised as in compiled networks, because PyTorch's own needs GPUs.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from nnunetv2.run import run_training
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as of_nnunet  # noqa: N813  a module
from torch.nn.parallel import DistributedDataParallel

from nnunet_sfma.trainers.nnUNetTrainerRecipe import nnUNetTrainerRecipe
from nnunet_sfma.trainers.synchronised_norm import synchronise_in_one_graph
from tests.trainers.conftest import TRAINER

RANKS = 2


def train(rank: int, typed: argparse.Namespace, meeting_point: str) -> None:
    """What ``run_ddp`` of nnU-Net does on each rank, but training and validation one at a time."""
    torch.set_num_threads(1)
    of_nnunet.DDP = lambda network, device_ids: DistributedDataParallel(synchronise_in_one_graph(network))
    timeout = timedelta(seconds=typed.timeout)
    dist.init_process_group("gloo", init_method=meeting_point, rank=rank, world_size=RANKS, timeout=timeout)
    trainer = run_training.get_trainer_from_args("1", "2d", 0, TRAINER, typed.plans, typed.c, torch.device("cpu"))
    trainer.device = torch.device("cpu")
    run_training.maybe_load_checkpoint(trainer, typed.c, typed.val)
    trainer.seconds_between_checkpoints = 0.0
    steps = watch_steps(trainer, rank, typed)
    if typed.val:
        trainer.perform_actual_validation()
    else:
        trainer.run_training()
    tensors = {name: tensor.tolist() for name, tensor in trainer.network.state_dict().items()}
    Path(typed.results, f"{rank}.json").write_text(json.dumps({"steps": steps, "tensors": tensors}))
    dist.destroy_process_group()


def watch_steps(trainer: nnUNetTrainerRecipe, rank: int, typed: argparse.Namespace) -> list[int]:
    """The epoch of each step that the trainer takes from now on; processes end themselves as the options say."""
    steps, step = [], trainer.train_step

    def watched(batch: dict) -> dict:
        output = step(batch)
        steps.append(trainer.current_epoch)
        if len(steps) == typed.killed_after and rank == 0:
            os.killpg(0, signal.SIGKILL)
        if len(steps) == typed.last_rank_leaves_after and rank == RANKS - 1:
            sys.exit()
        return output

    trainer.train_step = watched
    return steps


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("plans")
    parser.add_argument("results", help="folder for what each rank did")
    parser.add_argument("--c", action="store_true")
    parser.add_argument("--val", action="store_true", help="validate instead")
    parser.add_argument("--killed-after", type=int, metavar="STEPS")
    parser.add_argument("--last-rank-leaves-after", type=int, metavar="STEPS")
    parser.add_argument("--timeout", type=float, default=300, help="seconds that a rank waits for the other one")
    with tempfile.TemporaryDirectory() as folder:
        # forked, they need not import everything again
        meeting_point = f"file://{folder}/ranks"
        mp.start_processes(train, (parser.parse_args(), meeting_point), RANKS, start_method="fork")
