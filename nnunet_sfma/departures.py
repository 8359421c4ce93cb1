"""Where the networks and recipes depart from their papers' words, and what they decide where these leave it open."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from nnunet_sfma.json_files import ONE_LINE, valid
from nnunet_sfma.presets import Preset, load_preset

KINDS = {"departure": "Departures", "open": "Decisions on what the paper leaves open"}
PEER = "peer"
PEERS = ("nnunet_sfma.networks.peers.", "dynamic_network_architectures.")
TEXT = {**ONE_LINE, "minLength": 1}
ENTRY = {
    "type": "object",
    "required": ["key", "where", "kind", "printed", "done", "why"],
    "properties": {
        **{key: TEXT for key in ("key", "where", "printed", "done", "why", "switch", "measured")},
        "kind": {"enum": list(KINDS)},
        "literal": {"type": "array"},
        "when": {"type": "object", "additionalProperties": {"type": "array"}},
    },
    "additionalProperties": False,
}
NETWORK = {
    "type": "object",
    "required": ["defaults", "no_reading", "entries"],
    "properties": {"no_reading": {"additionalProperties": TEXT}, "entries": {"type": "array", "items": ENTRY}},
}
SCHEMA = {"type": "object", "additionalProperties": NETWORK}


@dataclass(frozen=True)
class Departure:
    """One equation or sentence of a paper that is not followed to the letter, or that leaves something open.

    Attributes:
        network: "SFMANet", "DANIE" or "peer".
        key: names the entry among those of its network.
        where: the equation, table or section.
        kind: "departure", or "open" where nothing printed is departed from.
        printed: what the paper says, in our words.
        done: what is done.
        why: the reason.
        switch: what changes it, as ``nnunet-sfma plan --set`` takes it; None if nothing does.
        literal: values of the switch that are the printed form; empty if none is.
        when: values of other switches without which the entry says nothing of a model.
        measured: what speaks for it in numbers; None if nothing was measured.
    """

    network: str
    key: str
    where: str
    kind: Literal["departure", "open"]
    printed: str
    done: str
    why: str
    switch: str | None = None
    literal: tuple = ()
    when: Mapping[str, Sequence] = field(default_factory=dict)
    measured: str | None = None

    def concerns(self, settings: Mapping[str, Any]) -> bool:
        """Whether a model with these settings departs here; one at the printed form does not."""
        if any(settings.get(key) not in values for key, values in self.when.items()):
            return False
        return self.switch is None or settings.get(self.switch) not in self.literal

    @property
    def printed_form(self) -> str | None:
        """The setting that gives it, as ``nnunet-sfma plan --set`` takes it."""
        return f"{self.switch}={json.dumps(self.literal[0])}" if self.literal else None


@cache
def load_departures() -> dict:
    """``departures.json``: for each network its entries, the defaults of its switches, and what is no reading.

    Raises:
        ValueError: if the file does not fit the schema.
    """
    text = files("nnunet_sfma").joinpath("departures.json").read_text(encoding="utf-8")
    content = json.loads(text)
    if not valid(content, SCHEMA):
        raise ValueError("departures.json does not fit its schema")
    return content


def entries(network: str) -> list[Departure]:
    """All entries of a network."""
    return [
        Departure(network, **{**entry, "literal": tuple(entry.get("literal", ()))})
        for entry in load_departures()[network]["entries"]
    ]


def departures_of(architecture: Mapping | None, training: Mapping | None, configuration: Mapping) -> list[Departure]:
    """The entries that concern a model.

    Args:
        architecture: its block of the plans, None for that of nnU-Net's own plans.
        training: as above; without it nnU-Net's own trainer has trained, of which no paper speaks.
        configuration: its patch and batch size and which ``paper_slices`` a conversion cut, as far as they are known.
    """
    network = _network(architecture)
    if network is None or not training:
        return []
    kwargs = (architecture or {}).get("arch_kwargs")
    settings = {
        **load_departures()[network]["defaults"],
        **{f"architecture.{key}": value for key, value in (kwargs if isinstance(kwargs, Mapping) else {}).items()},
        **{f"training.{key}": value for key, value in training.items()},
        **configuration,
    }
    return [entry for entry in entries(network) if entry.concerns(settings)]


def _network(architecture: Mapping | None) -> str | None:
    """Whose entries a network has; None for one of somebody else's."""
    if architecture is None:
        return PEER
    name = str(architecture.get("network_class_name"))
    if name.startswith(PEERS):
        return PEER
    own = name.rpartition(".")[2]
    return own if name.startswith("nnunet_sfma.networks.") and own in load_departures() else None


def departures_of_preset(preset: Preset) -> list[Departure]:
    """The entries that concern a preset."""
    return departures_of(preset.architecture, preset.training, preset.configuration)


def departures_of_evaluation(evaluation: dict) -> list[Departure]:
    """The entries that concern an evaluated model; none where it is not known or not of ours."""
    model = evaluation["model"] or {}
    if not model.get("architecture"):
        return []
    sizes = {key: model[key] for key in ("patch_size", "batch_size")}
    conversion = evaluation["dataset"].get("release_options") or {}
    configuration = {**sizes, "paper_slices": conversion.get("paper_slices")}
    return departures_of(model["architecture"], model["training"], configuration)


def counted(departures: Sequence[Departure]) -> str:
    """How many of each kind, in words."""
    numbers = [sum(each.kind == kind for each in departures) for kind in KINDS]
    return f"departs from the paper in {numbers[0]} points and decides {numbers[1]} that it leaves open"


def shown(name: str | None) -> list[Departure]:
    """The entries of a preset, or all.

    Raises:
        UserError: if there is no such preset.
    """
    if name is not None:
        return departures_of_preset(load_preset(name))
    return [entry for network in load_departures() for entry in entries(network)]


def format_departures(departures: Sequence[Departure]) -> str:
    """Entries as Markdown, the departures of each network first."""
    blocks = []
    for network in dict.fromkeys(each.network for each in departures):
        for kind, heading in KINDS.items():
            of_kind = [each for each in departures if (each.network, each.kind) == (network, kind)]
            if of_kind:
                blocks.append(f"## {title(network)}: {heading[0].lower()}{heading[1:]}")
                blocks += [_format(each) for each in of_kind]
    return "\n\n".join(blocks)


def to_json(departures: Sequence[Departure]) -> str:
    """Entries as JSON."""
    return json.dumps([asdict(each) for each in departures], indent=2)


def title(network: str) -> str:
    """How a network is called in texts."""
    return "Peers" if network == PEER else network


def _format(entry: Departure) -> str:
    lines = [f"- **{entry.where[0].upper()}{entry.where[1:]}** ({entry.key}). {entry.printed}"]
    lines += [f"  Here: {entry.done}", f"  Why: {entry.why}"]
    if entry.measured:
        lines.append(f"  Measured: {entry.measured}")
    if entry.printed_form:
        lines.append(f"  As printed: --set {entry.printed_form}")
    elif entry.switch:
        lines.append(f"  Switch: {entry.switch}")
    return "\n".join(lines)
