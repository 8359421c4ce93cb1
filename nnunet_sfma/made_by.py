"""Which command made a plans file: an entry that nnU-Net does not look at and copies beside the weights."""

import shlex
from collections.abc import Mapping, Sequence

from nnunet_sfma.json_files import valid

KEY = "made_by"
COMMAND = {
    "type": "array",
    "prefixItems": [{"const": "nnunet-sfma"}, {"const": "plan"}],
    "items": {"type": "string"},
    "minItems": 2,
}


def plan_command(
    dataset_id: str,
    preset: str,
    ablation: str | None,
    settings: Sequence[str],
    base: str,
    name: str,
    slice_axis: str | None,
    gpu_memory: float | None,
) -> list[str]:
    """Return the ``nnunet-sfma plan`` that makes these plans; arguments as of ``make_plans``."""
    optional = {"--ablation": ablation, "--slice-axis": slice_axis, "--gpu-memory": gpu_memory}
    return [
        *("nnunet-sfma", "plan", "-d", dataset_id, "--preset", preset, "-p", base, "--name", name),
        *(["--set", *settings] if settings else []),
        *(word for option, value in optional.items() if value is not None for word in (option, str(value))),
    ]


def command_of(plans: Mapping) -> str | None:
    """Return the command that made plans, as one would type it; None if they do not say."""
    command = plans.get(KEY)
    return shlex.join(command) if valid(command, COMMAND) else None


def are_the_same(plans: Mapping, others: Mapping) -> bool:
    """Whether two plans are equal, whatever made them."""
    return {**plans, KEY: None} == {**others, KEY: None}
