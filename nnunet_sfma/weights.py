"""``nnunet-sfma weights``: which published weights are cached, fetching them, and checking a local file."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.networks.danie.self_attention import published_weights_name
from nnunet_sfma.presets import load_preset, preset_names
from nnunet_sfma.trainers import hub
from nnunet_sfma.trainers.complete_plans import build_network, fit_to_patch
from nnunet_sfma.trainers.pretrained import check_pretrained, load


@dataclass(frozen=True)
class PublishedWeights:
    """One file of weights: its name on the hub, the presets that start from it, and where it is cached, if it is."""

    name: str
    presets: tuple[str, ...]
    cached: Path | None


@dataclass(frozen=True)
class Fit:
    """A local file that fits a preset's network, and what it was adapted to: (H, W) of the image and its channels."""

    file: Path
    preset: str
    image_size: tuple[int, int]
    channels: int


def published_weights(preset_name: str | None = None) -> list[PublishedWeights]:
    """All weights that the presets of this package start from, or those of one preset.

    Raises:
        UserError: if there is no such preset.
    """
    users: dict[str, list[str]] = {}
    for preset in map(load_preset, preset_names() if preset_name is None else [preset_name]):
        if preset.training["pretrained"] == "imagenet":
            sizes = [preset.architecture["arch_kwargs"][key] for key in ("backbone", "features_per_stage", "depths")]
            users.setdefault(published_weights_name(*sizes), []).append(preset.name)
    return [PublishedWeights(name, tuple(presets), hub.cached(name)) for name, presets in sorted(users.items())]


def fetch_weights(preset_name: str | None = None) -> list[PublishedWeights]:
    """The same, after what was missing has been downloaded.

    Raises:
        UserError: if there is no such preset or the hub cannot be reached.
    """
    for entry in published_weights(preset_name):
        hub.fetch(entry.name)
    return published_weights(preset_name)


def check_file(path: Path, preset_name: str, patch_size: Sequence[int], channels: int) -> Fit:
    """Load a file into a preset's network as a training would.

    Raises:
        UserError: if the preset has no place for weights or the file does not fit.
    """
    if channels < 1 or min(patch_size) < 1:
        raise UserError("--patch and --channels take numbers from 1 on.")
    architecture = load_preset(preset_name).architecture
    if architecture is None:
        raise UserError(f"The preset '{preset_name}' has no network of its own to load weights into.")
    network = build_network(fit_to_patch(architecture, patch_size), channels, 1)
    check_pretrained(network, str(path))
    load(network.pretrained_part, path)
    return Fit(path, preset_name, network.padded_size(patch_size), channels)


def format_weights(weights: list[PublishedWeights]) -> str:
    """One line per file."""
    if not weights:
        return "This preset starts from no published weights."
    lines = [
        f"{entry.name}: {f'cached, {entry.cached}' if entry.cached else 'not cached'} (for {', '.join(entry.presets)})"
        for entry in weights
    ]
    if any(entry.cached is None for entry in weights):
        lines.append("Fetch what is missing with nnunet-sfma weights --fetch.")
    return "\n".join(lines)


def format_fit(fit: Fit) -> str:
    """One sentence."""
    height, width = fit.image_size
    return (
        f"{fit.file} fits {fit.preset}: position tables for an image of {height} x {width}, "
        f"first convolution for {fit.channels} {'channel' if fit.channels == 1 else 'channels'}."
    )


def to_json(content: list[PublishedWeights] | Fit) -> str:
    """The same as JSON."""
    plain = asdict(content) if isinstance(content, Fit) else [asdict(entry) for entry in content]
    return json.dumps(plain, indent=2, default=str)
