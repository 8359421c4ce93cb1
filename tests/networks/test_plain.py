"""What a network that calls each of its layers can be used for: adapters, pruning, hooks and further derivatives."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.utils import prune

from nnunet_sfma.networks import DANIE, SFMANet
from nnunet_sfma.networks.accelerate import accelerate, restore_plain
from nnunet_sfma.networks.sfmanet import FrequencyGatingUnit, InformationEnhancementModule, SpatialGatingUnit
from tests.networks.probing import randomised


def small_sfmanet(**switches) -> SFMANet:
    return randomised(SFMANet(1, 2, (16, 32), **switches)).double().eval()


def small_danie(**switches) -> DANIE:
    sizes = {"features_per_stage": [32] * 4, "depths": [1] * 4, "blocks_per_stage": 1}
    return randomised(DANIE(1, 2, (32, 32), **sizes, **switches)).double().eval()


WHOLE = (SpatialGatingUnit, FrequencyGatingUnit, InformationEnhancementModule)
SMALL = pytest.mark.parametrize("make", [small_sfmanet, small_danie], ids=["SFMANet", "DANIE"])


def image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def leaves(network: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in network.named_modules() if not list(module.children())}


def layers(network: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in leaves(network).items() if isinstance(module, (nn.Conv2d, nn.Linear))}


class Adapted(nn.Module):
    """A layer with a change of its output beside it, as an adapter has it; anything else is the layer's."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.layer, name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        return y + 0.1 * torch.sin(7 * y + 1)


# every layer is called


@pytest.mark.parametrize("switches", [{}, {"dmau": False}, {"init_pointwise": True, "iem_fuse_kernel": 3}], ids=str)
def test_every_leaf_of_sfmanet_runs(switches: dict):
    with torch.device("meta"):
        network = SFMANet(1, 2, **switches).eval()
    calls = calls_of_leaves(network, torch.empty(1, 1, 64, 64, device="meta"))
    assert set(calls.values()) == {1}
    assert switches or len(calls) >= 155


def test_every_leaf_of_danie_runs():
    with torch.device("meta"):
        network = DANIE(3, 2, (64, 64)).eval()
    calls = calls_of_leaves(network, torch.empty(1, 3, 64, 64, device="meta"))
    never = {name.rpartition(".")[2] for name, number in calls.items() if number == 0}
    # of timm's attention: a table that a method reads, and a dropout of 0 that is an argument of the fused kernel
    assert never == {"rel_pos", "attn_drop"}


def calls_of_leaves(network: nn.Module, x: torch.Tensor) -> Counter:
    calls = Counter({name: 0 for name in leaves(network)})
    for name, module in leaves(network).items():
        module.register_forward_hook(lambda module, inputs, output, name=name: calls.update([name]))
    network(x)
    return calls


@SMALL
def test_adapter_around_any_layer_changes_the_output(make: Callable):
    network, x = make(), image(1, 1, 16, 16)
    with torch.no_grad():
        before = network(x)
        for name, layer in layers(network).items():
            network.set_submodule(name, Adapted(layer))
            assert not torch.allclose(network(x), before, rtol=1e-9), name
            network.set_submodule(name, layer)
        assert torch.equal(network(x), before)


@SMALL
def test_pruned_layers_are_trained_twice(make: Callable):
    network, x = make(), image(1, 1, 16, 16)
    for layer in layers(network).values():
        prune.l1_unstructured(layer, "weight", 0.5)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-9)
    for _ in range(2):
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()
    for name, layer in layers(network).items():
        assert torch.all(layer.weight_orig.grad[layer.weight_mask == 0] == 0), name
        assert layer.weight_orig.grad.any(), name


@SMALL
@pytest.mark.parametrize("gradients", [False, True], ids=["prediction", "training"])
def test_hooks_see_what_the_module_returned_and_nothing_overwrites_it(make: Callable, gradients: bool):
    network, seen = make().train(gradients), {}

    def keep(name: str, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        tensors = (output,) if isinstance(output, torch.Tensor) else output
        seen.setdefault(name, []).extend((tensor, tensor.detach().clone()) for tensor in tensors)

    for name, module in leaves(network).items():
        module.register_forward_hook(lambda module, inputs, output, name=name: keep(name, output))
    with torch.set_grad_enabled(gradients):
        network(image(2, 1, 64, 64))
    assert len(seen) > 50
    assert [name for name, outputs in seen.items() for kept, then in outputs if not torch.equal(kept, then)] == []


# further derivatives, each against one that is taken otherwise


@SMALL
def test_gradient_of_each_image_at_once(make: Callable):
    network, images = make(), image(3, 1, 1, 16, 16)
    parameters = dict(network.named_parameters())

    def loss(parameters: dict, x: torch.Tensor) -> torch.Tensor:
        return functional_call(network, parameters, (x,)).square().mean()

    found = vmap(grad(loss), in_dims=(None, 0))(parameters, images)
    for i, x in enumerate(images):
        expected = torch.autograd.grad(network(x).square().mean(), list(parameters.values()), allow_unused=True)
        for (name, of_all), one in zip(found.items(), expected, strict=True):
            torch.testing.assert_close(of_all[i], one, rtol=1e-6, atol=1e-9 * of_all.abs().max().item(), msg=name)


@SMALL
def test_derivative_along_a_direction_is_that_of_the_gradient(make: Callable):
    network, x, direction = make(), image(1, 1, 16, 16), image(1, 1, 16, 16)
    output, forward = jvp(network, (x,), (direction,))
    torch.testing.assert_close(output, network(x))
    seed = torch.randn_like(output)
    (backward,) = torch.autograd.grad((network(x.requires_grad_()) * seed).sum(), x)
    torch.testing.assert_close((forward * seed).sum(), (backward * direction).sum())


@SMALL
def test_penalty_on_the_gradient_has_a_gradient(make: Callable):
    network, x, direction = make(), image(1, 1, 16, 16), image(1, 1, 16, 16)

    def slope(x: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(network(x).square().sum(), x, create_graph=True)[0].square().sum()

    x.requires_grad_()
    (found,) = torch.autograd.grad(slope(x), x)
    step = 1e-6
    expected = (slope(x + step * direction) - slope(x - step * direction)) / (2 * step)
    torch.testing.assert_close((found * direction).sum(), expected, rtol=1e-4, atol=0)


# accelerating


def accelerated(network: nn.Module) -> set[str]:
    """Names of the units that are."""
    package = "nnunet_sfma.networks.accelerate."
    return {name for name, module in network.named_modules() if type(module).__module__.startswith(package)}


def wrap(network: nn.Module, name: str) -> None:
    network.set_submodule(name, Adapted(network.get_submodule(name)))


def parametrise(network: nn.Module, name: str) -> None:
    nn.utils.parametrizations.weight_norm(network.get_submodule(name))


def prune_weight(network: nn.Module, name: str) -> None:
    prune.l1_unstructured(network.get_submodule(name), "weight", 0.5)


def hook(network: nn.Module, name: str) -> None:
    network.get_submodule(name).register_forward_hook(lambda module, inputs, output: output + 1)


CHANGED = [f"skips.0.{name}" for name in ("sgu.attention.0", "fgu.group_conv", "fgu.squeeze_low", "dmau.mix")]
CHANGED += ["skips.0.dmau.spatial.1.0", "encoder.iem.0.branches.1.1", "encoder.iem.0.row_attention.key"]
CHANGED += ["encoder.stages.1.conv2"]


@pytest.mark.parametrize("change", [wrap, parametrise, prune_weight, hook])
@pytest.mark.parametrize("name", CHANGED)
def test_units_with_changed_layers_stay_plain(name: str, change: Callable):
    plain, fast = small_sfmanet(), small_sfmanet()
    fast.load_state_dict(plain.state_dict())
    for network in (plain, fast):
        change(network, name)
    units = accelerated(accelerate(fast))
    assert len(units) > 5 and not [unit for unit in units if f"{name}.".startswith(f"{unit}.")]
    x = image(1, 1, 16, 16)
    expected = plain(x)
    assert (fast(x) - expected).abs().max() <= 1e-10 * expected.abs().max()
    for _ in range(2):  # pruning alone would fail in the second pass if the layer were not called
        fast(x).square().mean().backward()


@SMALL
def test_hooks_of_whole_units_are_called_on_the_fast_ones(make: Callable):
    plain, fast, x, seen = make(), make(), image(1, 1, 16, 16), {}
    fast.load_state_dict(plain.state_dict())
    names = [name for name in accelerated(accelerate(fast)) if isinstance(fast.get_submodule(name), WHOLE)]
    assert names or make is small_danie
    for network in (plain, fast):
        for name in names:
            unit = network.get_submodule(name)
            unit.register_forward_hook(lambda unit, inputs, output, name=name: seen.setdefault(name, []).append(output))
    for network in (plain, fast):
        network(x)
    assert seen.keys() == set(names)
    for name, (of_plain, of_fast) in seen.items():
        torch.testing.assert_close(of_fast, of_plain, rtol=1e-8, atol=1e-8, msg=name)


@SMALL
def test_way_back_calls_every_layer(make: Callable):
    network, untouched = restore_plain(accelerate(make())), make()
    assert [type(module) for module in network.modules()] == [type(module) for module in untouched.modules()]


def test_networks_are_made_plain():
    assert not accelerated(small_sfmanet()) and not accelerated(small_danie())
