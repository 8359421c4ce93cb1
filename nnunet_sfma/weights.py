"""Published weights: what is cached, fetching them, and loading a file into a network; ``nnunet-sfma weights``.

They come from timm's place on the Hugging Face hub, and lie in the hub's cache, which timm uses as well.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from nnunet_sfma.errors import UserError

FILE_NAME = "model.safetensors"
WAIT_SECONDS = 10.0


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
    from nnunet_sfma.networks.danie.self_attention import published_weights_name
    from nnunet_sfma.presets import load_preset, preset_names

    users: dict[str, list[str]] = {}
    for preset in map(load_preset, preset_names() if preset_name is None else [preset_name]):
        if preset.training["pretrained"] == "imagenet":
            sizes = [preset.architecture["arch_kwargs"][key] for key in ("backbone", "features_per_stage", "depths")]
            users.setdefault(published_weights_name(*sizes), []).append(preset.name)
    return [PublishedWeights(name, tuple(presets), cached(name)) for name, presets in sorted(users.items())]


def cached(name: str) -> Path | None:
    """The cached file of published weights, if there is one."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, FILE_NAME)
    return Path(path) if isinstance(path, str) else None


def fetch(name: str) -> Path:
    """The cached file of published weights, downloaded if it is not there.

    Raises:
        UserError: if it is not there and the hub cannot be reached within a few seconds.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    path = cached(name)
    if path is not None:
        return path
    try:
        # one question first: the download itself would repeat it for minutes before it gives up
        get_hf_file_metadata(hf_hub_url(name, FILE_NAME), timeout=WAIT_SECONDS)
        return Path(hf_hub_download(name, FILE_NAME))
    except Exception as error:  # each release of the hub's library has network errors of its own
        raise UserError(
            f"The weights {name} are not in the cache {constants.HF_HUB_CACHE} and cannot be fetched "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}): run nnunet-sfma weights --fetch "
            f"where there is a network and copy that cache, or make a plan with training.pretrained=FILE for a "
            f"{FILE_NAME} of that name that you have, or with training.pretrained=none to train from scratch."
        ) from error


def load(network: nn.Module, path: Path) -> None:
    """Load a file of published weights into the part of the network that it belongs to.

    Raises:
        UserError: if the file is missing, unreadable or of another model; the network is as it was then.
    """
    if not path.is_file():
        raise UserError(f"The weights {path} do not exist: correct training.pretrained, or see nnunet-sfma weights.")
    try:
        network.load_pretrained(path)
    except (OSError, ValueError) as error:
        raise UserError(f"The weights {path} cannot be loaded: {error}.") from error


def check_file(path: Path, preset_name: str, patch_size: Sequence[int], channels: int) -> Fit:
    """Load a file into a preset's network as a training would.

    Raises:
        UserError: if the preset has no place for weights or the file does not fit.
    """
    from nnunet_sfma.presets import load_preset
    from nnunet_sfma.trainers.complete_plans import build_network, fit_to_patch
    from nnunet_sfma.trainers.pretrained import check_pretrained

    network = build_network(fit_to_patch(load_preset(preset_name).architecture, patch_size), channels, 1)
    check_pretrained(network, str(path))
    load(network, path)
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
