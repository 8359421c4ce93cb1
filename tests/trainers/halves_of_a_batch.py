"""Two ranks normalise one half of a batch each; prints how far they are from the whole batch: run by its test."""

import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from nnunet_sfma.trainers.synchronised_norm import synchronise_in_one_graph

SIZES = [3, 2]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2)
    ).double()


def results(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The output, and all gradients and buffers of a step."""
    output = network(images)
    output.pow(3).sum().backward()
    return output, [*(parameter.grad for parameter in network.parameters()), *network.buffers()]


def compare(rank: int, meeting_point: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting_point, rank=rank, world_size=len(SIZES))
    whole_batch = 5 + torch.randn(sum(SIZES), 1, 9, 8, generator=torch.Generator().manual_seed(1)).double()
    expected, rest = results(network(), whole_batch)
    ours = synchronise_in_one_graph(nn.SyncBatchNorm.convert_sync_batchnorm(network()))
    output, found = results(ours, whole_batch.split(SIZES)[rank])
    for gradient in found[: len(list(ours.parameters()))]:
        dist.all_reduce(gradient)
    torch.testing.assert_close(output, expected.split(SIZES)[rank])
    torch.testing.assert_close(found, rest)
    ours.eval()(whole_batch[: rank + 1])  # each by itself
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(compare, (f"file://{folder}/ranks",), len(SIZES), start_method="fork")
