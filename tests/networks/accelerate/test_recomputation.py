"""What a training step keeps in memory, and that computing the rest again changes nothing."""

import copy

import pytest
import torch

from nnunet_sfma.networks import DANIE, SFMANet
from nnunet_sfma.networks.accelerate import accelerate, checkpoint_activations, has_checkpointing, recomputation
from nnunet_sfma.networks.sfmanet import AxialAttention

WIDTHS = [16, 32, 64]


def kept_bytes(module: torch.nn.Module, x: torch.Tensor) -> int:
    """What autograd keeps of a forward pass, without the parameters."""
    parameters = {parameter.data_ptr() for parameter in module.parameters()}
    kept = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = module(x)
    assert output.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


def gradients(network: torch.nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    x = x.clone().requires_grad_()
    network(x).square().mean().backward()
    return {"x": x.grad, **{name: parameter.grad for name, parameter in network.named_parameters()}}


def prepared(checkpointing: bool) -> SFMANet:
    torch.manual_seed(0)
    network = accelerate(SFMANet(1, 2, features_per_stage=WIDTHS).double())
    if checkpointing:
        checkpoint_activations(network)
    return network


@pytest.mark.parametrize("checkpointing", [False, True])
def test_recomputation_changes_neither_gradients_nor_statistics(checkpointing, monkeypatch):
    monkeypatch.setattr(recomputation, "LARGE", 0)
    network, x = prepared(checkpointing), torch.randn(2, 1, 24, 36, dtype=torch.double)
    reference = SFMANet(1, 2, features_per_stage=WIDTHS).double()
    reference.load_state_dict(copy.deepcopy(network.state_dict()))
    found, expected = gradients(network, x), gradients(reference, x)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-10 * gradient.abs().max().item())
    torch.testing.assert_close(network.state_dict(), reference.state_dict(), rtol=1e-10, atol=1e-10)
    assert all(norm.momentum == 0.1 for norm in network.modules() if isinstance(norm, torch.nn.BatchNorm2d))


def test_large_maps_and_checkpointing_keep_less(monkeypatch):
    x = torch.randn(2, 1, 64, 64, dtype=torch.double)
    everything = kept_bytes(prepared(checkpointing=False), x)
    checkpointed = kept_bytes(prepared(checkpointing=True), x)  # these maps are small
    monkeypatch.setattr(recomputation, "LARGE", 0)
    large = kept_bytes(prepared(checkpointing=False), x)
    unet = accelerate(SFMANet(1, 2, WIDTHS, sfgu=False, dmau=False, iem_stages=0).double())
    of_unet = kept_bytes(unet, x)
    assert large < 1.5 * of_unet < everything
    assert checkpointed < 0.7 * of_unet


@pytest.mark.parametrize("axis", ["column", "row"])
def test_axial_attention_keeps_memory_in_proportion_to_the_pixels(axis):
    # with the attention weights kept, twice the side would take up to eight times the memory
    unit = accelerate(AxialAttention(8, axis))
    small, large = (kept_bytes(unit, torch.randn(1, 8, side, side)) for side in (64, 128))
    assert large < 4.1 * small


def test_networks_without_such_units_are_refused():
    with pytest.raises(ValueError, match="SFMANet has no units whose activations can be computed again"):
        checkpoint_activations(SFMANet(1, 2, WIDTHS))
    assert not has_checkpointing(accelerate(DANIE(1, 2, (64, 64), features_per_stage=(32, 32, 32, 32))))
