"""What the papers' equations are made of, in NumPy: loops over kernels, lines and images, no deep learning library.

Arrays are float64. A map has the shape (B, C, H, W); ``weights`` are the arrays of a layer or a unit by the names that
its checkpoint has for them, "weight" and "bias" of a layer.
"""

import math
from collections.abc import Mapping

import numpy as np

Weights = Mapping[str, np.ndarray]

BATCH_NORM_EPSILON = 1e-5
LAYER_NORM_EPSILON = 1e-5


def part(weights: Weights, name: str) -> dict[str, np.ndarray]:
    """The weights of the layer or unit of that name, by their names in it."""
    return {key[len(name) + 1 :]: value for key, value in weights.items() if key.startswith(f"{name}.")}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    exponentials = np.exp(x - x.max(axis=axis, keepdims=True))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def gelu(x: np.ndarray) -> np.ndarray:
    """x times the normal distribution's probability of less than x."""
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def convolution(x: np.ndarray, weights: Weights, groups: int = 1, stride: int = 1) -> np.ndarray:
    """A convolution that pads with zeros, so that with stride 1 the size stays."""
    weight = weights["weight"]
    outputs, of_group, *kernel = weight.shape
    batch, _, *size = x.shape
    borders = [(side // 2, side // 2) for side in kernel]
    padded = np.pad(x, [(0, 0), (0, 0), *borders])
    height, width = (-(-side // stride) for side in size)
    out = np.zeros((batch, outputs, height, width))
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            shifted = padded[:, :, i : i + stride * height : stride, j : j + stride * width : stride]
            for o in range(outputs):
                first = o // (outputs // groups) * of_group
                out[:, o] += np.einsum("bchw,c->bhw", shifted[:, first : first + of_group], weight[o, :, i, j])
    return out + weights.get("bias", np.zeros(outputs))[:, None, None]


def raised_by_transposed_convolution(x: np.ndarray, weights: Weights) -> np.ndarray:
    """A transposed convolution of kernel 2 and stride 2: each position becomes a square of four."""
    weight = weights["weight"]
    batch, _, height, width = x.shape
    out = np.zeros((batch, weight.shape[1], 2 * height, 2 * width))
    for i in range(2):
        for j in range(2):
            out[:, :, i::2, j::2] = np.einsum("bchw,co->bohw", x, weight[:, :, i, j])
    return out + weights["bias"][:, None, None]


def batch_norm(x: np.ndarray, weights: Weights) -> np.ndarray:
    """With the running statistics, as in prediction."""
    mean, variance, scale, shift = (
        weights[name][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(variance + BATCH_NORM_EPSILON) * scale + shift


def layer_norm(x: np.ndarray, weights: Weights) -> np.ndarray:
    """Of vectors (B, C)."""
    centred = x - x.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + LAYER_NORM_EPSILON)
    return centred / deviation * weights["weight"] + weights["bias"]


def linear(x: np.ndarray, weights: Weights) -> np.ndarray:
    """Of vectors (B, C)."""
    return np.einsum("bc,oc->bo", x, weights["weight"]) + weights["bias"]


def max_pooled(x: np.ndarray) -> np.ndarray:
    """The largest of each square of four positions."""
    squares = [x[:, :, i::2, j::2] for i in range(2) for j in range(2)]
    return np.max(squares, axis=0)


def interpolated(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, positions being the centres of pixels, the borders' values going on beyond their centres."""
    along_height, along_width = (_interpolation(old, new) for old, new in zip(x.shape[2:], size, strict=True))
    return np.einsum("ih,bchw,jw->bcij", along_height, x, along_width)


def _interpolation(old: int, new: int) -> np.ndarray:
    """The share (new, old) of each old position in each new one."""
    shares = np.zeros((new, old))
    for i in range(new):
        centre = min(max((i + 0.5) * old / new - 0.5, 0), old - 1)
        below = math.floor(centre)
        shares[i, below] += 1 - (centre - below)
        shares[i, min(below + 1, old - 1)] += centre - below
    return shares


def permuted(x: np.ndarray, weights: Weights) -> np.ndarray:
    """The channels in the order that a permutation keeps."""
    return x[:, weights["order"].astype(int)]


def cat(*maps: np.ndarray) -> np.ndarray:
    return np.concatenate(maps, axis=1)
