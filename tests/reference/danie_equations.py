"""DANIE's equations in NumPy, written from the paper; the readings are those that the package's docstrings decide.

Equation 1 is timm's MaxViT and not written out here.
"""

from collections.abc import Sequence

import numpy as np

from tests.reference.arithmetic import (
    Weights,
    batch_norm,
    cat,
    convolution,
    gelu,
    interpolated,
    layer_norm,
    linear,
    part,
    sigmoid,
    softmax,
)


def conv_norm_gelu(weights: Weights, x: np.ndarray, stride: int = 1) -> np.ndarray:
    """3x3 convolution - BN - GELU."""
    return gelu(batch_norm(convolution(x, part(weights, "0"), stride=stride), part(weights, "1")))


def conv_block(weights: Weights, x: np.ndarray) -> np.ndarray:
    """The paper's ConvBlock."""
    return conv_norm_gelu(part(weights, "1"), conv_norm_gelu(part(weights, "0"), x))


def by_channel(weights: Weights, h: np.ndarray, pool) -> np.ndarray:
    """Equation 2 of one branch."""
    pooled = pool(h, axis=(2, 3), keepdims=True)
    hidden = gelu(convolution(pooled, part(weights, "mlp.0")))
    return sigmoid(convolution(hidden, part(weights, "mlp.2"))) * h


def by_position(weights: Weights, m: np.ndarray, pool) -> np.ndarray:
    """Equation 3 of one branch."""
    return sigmoid(convolution(pool(m, axis=1, keepdims=True), part(weights, "position"))) * m


def hierarchical_attention(
    weights: Weights,
    h: np.ndarray,
    channel_attention: bool = True,
    spatial_attention: bool = True,
    attention_order: str = "channel_spatial",
    dynamic_calibration: bool = True,
    calibration_map: bool = True,
) -> np.ndarray:
    """One block of HAP, equations 2-5."""
    o = {}
    for branch, pool in (("max", np.max), ("avg", np.mean)):
        steps = [by_channel] * channel_attention + [by_position] * spatial_attention
        o[branch] = h
        for step in steps[::-1] if attention_order == "spatial_channel" else steps:
            o[branch] = step(weights, o[branch], pool)
    omega = {branch: weights[f"omega_{branch}"] if dynamic_calibration else 1 for branch in o}
    o_d = omega["max"] * o["max"] + omega["avg"] * o["avg"]
    if calibration_map:
        o_d = sigmoid(convolution(o_d, part(weights, "calibrate"))) * h
    return conv_block(part(weights, "block"), o_d)


def hierarchical_stream(
    weights: Weights, x: np.ndarray, stages: int, blocks_per_stage: int, attention: dict
) -> list[np.ndarray]:
    """HAP: the features of all stages, finest first."""
    features = []
    x = conv_norm_gelu(part(weights, "entries.0.0"), x, stride=2)
    for i in range(stages):
        x = conv_norm_gelu(part(weights, "entries.0.1" if i == 0 else f"entries.{i}"), x, stride=2)
        for block in range(blocks_per_stage):
            x = hierarchical_attention(part(weights, f"stages.{i}.{block}"), x, **attention)
        features.append(x)
    return features


def correlations(weights: Weights, s: np.ndarray, scale: float | None = None) -> np.ndarray:
    """Equation 6: w_ij of each image, normalised over the sources i."""
    w = []
    for rows in s.reshape(*s.shape[:2], -1):
        products = np.array([[s_i @ s_j for s_j in rows] for s_i in rows])
        w.append(softmax(products * (1 if scale is None else scale), axis=0))
    return np.array(w)


def enhanced_self_attention(weights: Weights, s: np.ndarray, scale: float | None = None) -> np.ndarray:
    """ES, equations 6-7, with S_i under the sum of equation 7."""
    out = np.empty_like(s)
    channels = s.shape[1]
    for image, w in enumerate(correlations(weights, s, scale)):
        rows = s[image].reshape(channels, -1)
        mixed = np.array([sum(w[i, j] * rows[i] for i in range(channels)) for j in range(channels)])
        out[image] = weights["gain"] * mixed.reshape(s.shape[1:]) + s[image]
    return out


def global_context(weights: Weights, h: np.ndarray) -> np.ndarray:
    """A_g of equation 8, (B, C)."""
    positions = h.reshape(*h.shape[:2], -1)
    scores = convolution(h, part(weights, "context")).reshape(len(h), -1)
    return np.einsum("bn,bcn->bc", softmax(scores, axis=1), positions)


def enhanced_hierarchical_attention(weights: Weights, h: np.ndarray) -> np.ndarray:
    """EH, equations 8-9."""
    a_g = global_context(weights, h)
    hidden = gelu(layer_norm(linear(a_g, part(weights, "integrate.0")), part(weights, "integrate.1")))
    return sigmoid(linear(hidden, part(weights, "integrate.3")))[:, :, None, None] * h


def fused(
    weights: Weights, streams: Sequence[np.ndarray], fusion: str, fuse_conv: bool = True, es_scale: float | None = None
) -> np.ndarray:
    """Equation 10, or what the paper's Table 7 compares it with."""
    if fusion == "add":
        return sum(streams)
    s, h = streams
    if fusion == "concat_residual":
        return conv_norm_gelu(part(weights, "reduce"), cat(s, h)) + s + h
    if fusion != "eh_add":
        s = enhanced_self_attention(part(weights, "es"), s, es_scale)
    if fusion != "es_add":
        h = enhanced_hierarchical_attention(part(weights, "eh"), h)
    return conv_norm_gelu(part(weights, "fuse"), s + h) if fuse_conv else s + h


def joint_preservation(
    weights: Weights, streams: Sequence[Sequence[np.ndarray]], fusion: str, **arguments
) -> list[np.ndarray]:
    """JP, equations 10-11, from the deepest stage up: j_1, j_2, ..."""
    stages = len(streams[0])
    e = [
        fused(part(weights, f"fusions.{i}"), [stream[i] for stream in streams], fusion, **arguments)
        for i in range(stages)
    ]
    j = {stages - 1: conv_block(part(weights, f"blocks.{stages - 1}"), e[-1])}
    for i in reversed(range(stages - 1)):
        raised = interpolated(conv_norm_gelu(part(weights, f"up.{i}"), j[i + 1]), e[i].shape[2:])
        j[i] = conv_block(part(weights, f"blocks.{i}"), cat(e[i], raised))
    return [j[i] for i in range(stages)]


def prediction(weights: Weights, maps: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Equation 12 with all weights 1: the logits."""
    heads = (convolution(j, part(weights, f"seg_layers.{i}")) for i, j in enumerate(maps))
    return sum(interpolated(head, size) for head in heads)


def hierarchical_danie(weights: Weights, x: np.ndarray, size: tuple[int, int], blocks: int, attention: dict):
    """The network with the hierarchical stream alone, on an image padded with zeros at the end to a size."""
    height, width = x.shape[2:]
    x = np.pad(x, [(0, 0), (0, 0), (0, size[0] - height), (0, size[1] - width)])
    features = hierarchical_stream(part(weights, "hap"), x, 4, blocks, attention)
    maps = joint_preservation(part(weights, "joint_preservation"), [features], "add")
    return prediction(part(weights, "heads"), maps, size)[:, :, :height, :width]
