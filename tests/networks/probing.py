"""Random weights and inputs for a module, its counterpart in the reference, and what is given to its parts."""

import math
from collections.abc import Callable

import torch
from torch import nn


def randomised(module: nn.Module) -> nn.Module:
    """The module with no weight, bias, running statistic or permutation left where it starts."""
    with torch.no_grad():
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=1 / math.sqrt(parameter[0].numel()) if parameter.ndim > 1 else 1)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                nn.init.normal_(buffer)
            elif name.endswith("running_var"):
                nn.init.uniform_(buffer, 0.5, 2)
            elif name.endswith("order"):
                buffer.copy_(torch.randperm(len(buffer)))
    return module


def counterpart(reference: nn.Module, module: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The reference in a precision, with the module's weights and in its mode."""
    reference = reference.to(dtype).train(module.training)
    reference.load_state_dict(module.state_dict())
    return reference


def by_equations(equations: Callable, module: nn.Module, *inputs: torch.Tensor, **arguments) -> torch.Tensor:
    """What equations of tests/reference make of a module's weights and of inputs, in float64."""
    weights = {name: value.double().numpy() for name, value in module.state_dict().items()}
    return torch.from_numpy(equations(weights, *(x.detach().double().numpy() for x in inputs), **arguments))


def given_to(part: nn.Module, whole: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
    """What a part of a network is given when the whole sees the inputs."""
    seen = []
    handle = part.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    whole(*inputs)
    handle.remove()
    return seen[0]


def inputs(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)
