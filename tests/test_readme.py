"""The README says what the commands print."""

from pathlib import Path

from nnunet_sfma.planning.cost_table import cost_rows, format_table
from nnunet_sfma.presets import load_preset, preset_names

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_tables_of_networks_are_those_that_the_command_prints():
    # without the peers, which cannot all be counted everywhere
    assert format_table([row for row in cost_rows() if not row.preset.startswith("peer-")]) in README


def test_presets_named_in_commands_exist():
    named = {line.split("--preset ")[1].split()[0] for line in README.splitlines() if "--preset " in line}
    assert named and named <= set(preset_names())
    assert load_preset("sfmanet").configuration["batch_size"] == 16
