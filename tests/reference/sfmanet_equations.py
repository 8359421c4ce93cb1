"""SFMANet's equations in NumPy, written from the paper; the readings are those that the package's docstrings decide."""

from collections.abc import Sequence

import numpy as np

from tests.reference.arithmetic import (
    Weights,
    batch_norm,
    cat,
    convolution,
    max_pooled,
    part,
    permuted,
    raised_by_transposed_convolution,
    sigmoid,
    softmax,
)

GAMMA_GUARD, BETA_GUARD = 1e-3, 1.0


def spatial_groups(channels: int) -> int:
    """G_c of equations 1-4."""
    return 16 if channels >= 64 else max(1, channels // 4)


def normalised(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """SGN of equations 1-3 with G_s = 1."""
    out, of_group = np.empty_like(x), x.shape[1] // spatial_groups(x.shape[1])
    for image in range(len(x)):
        for first in range(0, x.shape[1], of_group):
            group = x[image, first : first + of_group]
            out[image, first : first + of_group] = (group - group.mean()) / np.sqrt(group.var() + 1e-5)
    return out * gamma[:, None, None] + beta[:, None, None]


def share(p: np.ndarray, guard: float, weight: str) -> np.ndarray:
    """One of equation 4's two sums of ratios, its denominators replaced by the mean of their absolute values."""
    of_group = len(p) if weight == "channel_sum" else len(p) // spatial_groups(len(p))
    shares = np.empty_like(p)
    for i in range(len(p)):
        first = i // of_group * of_group
        shares[i] = p[i] / (np.abs(p[first : first + of_group]).mean() + guard)
        if weight.endswith("sum"):
            shares[i] /= of_group
    return shares


def correlation_weights(gamma: np.ndarray, beta: np.ndarray, weight: str, with_beta: bool) -> np.ndarray:
    """Equation 4."""
    return share(gamma, GAMMA_GUARD, weight) + (share(beta, BETA_GUARD, weight) if with_beta else 0)


def gates(r: np.ndarray, threshold: float, gate: str) -> tuple[np.ndarray, np.ndarray]:
    """W1 and W2 of equation 5."""
    informative = r > threshold
    if gate == "disjoint":
        return np.where(informative, r, 0), np.where(informative, 0, r)
    return np.where(informative, 1, r), np.where(informative, 0, r)


def spatial_gating(
    weights: Weights,
    x: np.ndarray,
    threshold: float = 0.5,
    weight: str = "group_mean",
    beta: bool = True,
    gate: str = "kept",
) -> np.ndarray:
    """SGU, equations 1-7: Out_S."""
    norm = part(weights, "norm")
    y = normalised(x, norm["weight"], norm["bias"])
    w = correlation_weights(norm["weight"], norm["bias"], weight, beta)
    w1, w2 = gates(sigmoid(w[:, None, None] * y), threshold, gate)
    x1, x2 = w1 * x, w2 * x
    a = convolution(x1 + x2, part(weights, "attention.0"))
    a = sigmoid(convolution(a, part(weights, "attention.1")))
    (x11, x12), (x21, x22) = np.split(x1, 2, axis=1), np.split(x2, 2, axis=1)
    return cat((x11 + x22) * a, (x12 + x21) * a)


def frequency_gating(
    weights: Weights,
    x: np.ndarray,
    alpha: float = 0.5,
    groups: int = 4,
    rescale: bool = True,
) -> np.ndarray:
    """FGU, equations 8-14: Out_C."""
    channels = x.shape[1]
    high = round(alpha * channels)
    u, low = x[:, :high], x[:, high:]
    u, low = convolution(u, part(weights, "squeeze_high")), convolution(low, part(weights, "squeeze_low"))
    u, low = permuted(u, part(weights, "permute_high")), permuted(low, part(weights, "permute_low"))
    y1 = convolution(u, part(weights, "group_conv"), groups) + convolution(u, part(weights, "point_conv_high"))
    y2 = cat(convolution(low, part(weights, "point_conv_low")), low)
    y3 = cat(y1, y2)
    w = softmax(y3.mean(axis=(2, 3)), axis=1)
    if rescale:
        w = w * 2 * channels
    o1, o2 = np.split(w[:, :, None, None] * y3, 2, axis=1)
    return permuted(o1, part(weights, "permute_first")) + permuted(o2, part(weights, "permute_second"))


def strips(weights: Weights, x: np.ndarray) -> np.ndarray:
    """One length of equations 15-18: along the rows and then along the columns."""
    along_rows = convolution(x, part(weights, "0"), groups=x.shape[1])
    return convolution(along_rows, part(weights, "1"), groups=x.shape[1])


def dual_axis(
    weights: Weights, x_in: np.ndarray, x: np.ndarray, out_s: np.ndarray, out_c: np.ndarray, lengths: int = 3
) -> np.ndarray:
    """DMAU, equations 15-20."""
    f = x
    for i in range(lengths):
        f = f + strips(part(weights, f"spatial.{i}"), out_s) + strips(part(weights, f"frequency.{i}"), out_c)
    return convolution(f, part(weights, "mix")) * x_in


def axial_attention(
    weights: Weights, x: np.ndarray, axis: str, kind: str = "scaled", factor: bool = False
) -> np.ndarray:
    """CAA ("column") or RAA ("row") of equation 23."""
    if kind == "identity":
        return x
    q, k, v = (convolution(x, part(weights, name)) for name in ("query", "key", "value"))
    out = np.empty_like(x)
    for image in range(len(x)):
        for line in range(x.shape[3 if axis == "column" else 2]):
            where = (image, slice(None), slice(None), line) if axis == "column" else (image, slice(None), line)
            logits = np.einsum("ci,cj->ij", q[where], k[where])
            if kind == "scaled":
                logits = logits / np.sqrt(len(q[where]))
            out[where] = np.einsum("ij,cj->ci", softmax(logits, axis=1), v[where])
    return weights["factor"] * out + x if factor else out


def shuffled(x: np.ndarray, groups: int = 4) -> np.ndarray:
    """The channels of the groups in turn: the first of each, the second of each, ..."""
    of_group = x.shape[1] // groups
    return x[:, [group * of_group + i for i in range(of_group) for group in range(groups)]]


def information_enhancement(
    weights: Weights,
    x: np.ndarray,
    fuse_groups: int = 1,
    pointwise: bool = True,
    attention: str = "scaled",
    attention_factor: bool = False,
) -> np.ndarray:
    """IEM, equations 21-23."""
    sources = [x]
    for i in range(3):
        scale = convolution(x, part(weights, f"branches.{i}.0"), groups=x.shape[1])
        sources.append(convolution(scale, part(weights, f"branches.{i}.1")) if pointwise else scale)
    f = convolution(shuffled(cat(*sources)), part(weights, "fuse"), fuse_groups)
    by_column = axial_attention(part(weights, "column_attention"), f, "column", attention, attention_factor)
    return f + axial_attention(part(weights, "row_attention"), by_column, "row", attention, attention_factor)


def gated_skip(
    weights: Weights,
    x_in: np.ndarray,
    sgu: dict,
    fgu: dict,
    dmau: bool = True,
    init_pointwise: bool = False,
) -> np.ndarray:
    """SFGU with or without DMAU on one skip; without, for which nothing is printed, the sum of the gated maps."""
    x = convolution(x_in, part(weights, "init.0"), groups=x_in.shape[1])
    if init_pointwise:
        x = convolution(x, part(weights, "init.1"))
    out_s, out_c = spatial_gating(part(weights, "sgu"), x, **sgu), frequency_gating(part(weights, "fgu"), x, **fgu)
    return dual_axis(part(weights, "dmau"), x_in, x, out_s, out_c) if dmau else out_s + out_c


def double_convolution(weights: Weights, x: np.ndarray) -> np.ndarray:
    """[3x3 convolution - BN - ReLU] twice."""
    for i in (1, 2):
        x = np.maximum(batch_norm(convolution(x, part(weights, f"conv{i}")), part(weights, f"norm{i}")), 0)
    return x


def sfmanet(
    weights: Weights,
    x: np.ndarray,
    stages: int,
    sgu: dict,
    fgu: dict,
    iem: dict,
    sfgu: bool = True,
    dmau: bool = True,
    init_pointwise: bool = False,
    iem_stages: int | None = None,
) -> np.ndarray:
    """The network: logits of an image of any size, padded with zeros at the end to multiples of 2**(stages - 1)."""
    height, width = x.shape[2:]
    multiple = 2 ** (stages - 1)
    x = np.pad(x, [(0, 0), (0, 0), (0, -height % multiple), (0, -width % multiple)])
    features = _encoded(part(weights, "encoder"), x, stages, iem, stages - 1 if iem_stages is None else iem_stages)
    skips = [
        gated_skip(part(weights, f"skips.{i}"), feature, sgu, fgu, dmau, init_pointwise) if sfgu else feature
        for i, feature in enumerate(features[:-1])
    ]
    d = features[-1]
    for i, skip in enumerate(reversed(skips)):
        raised = raised_by_transposed_convolution(d, part(weights, f"decoder.up.{i}"))
        d = double_convolution(part(weights, f"decoder.stages.{i}"), cat(skip, raised))
    return convolution(d, part(weights, "decoder.seg_layers.0"))[:, :, :height, :width]


def _encoded(weights: Weights, x: np.ndarray, stages: int, iem: dict, iem_stages: int) -> Sequence[np.ndarray]:
    features = []
    for i in range(stages):
        features.append(double_convolution(part(weights, f"stages.{i}"), x))
        x = features[-1]
        if i < iem_stages:
            x = information_enhancement(part(weights, f"iem.{i}"), x, **iem)
        if i < stages - 1:
            x = max_pooled(x)
    return features
