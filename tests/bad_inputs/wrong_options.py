"""Every option of every command at wrong values, found by walking the parser itself."""

from collections.abc import Iterator

from nnunet_sfma.cli import _parser
from nnunet_sfma.standard_argparse import argparse
from tests.bad_inputs.commands import COMMANDS

NO_WHOLE_NUMBER, NO_NUMBER = ("x", "1.5", "-3"), ("x", "nan", "-3")
NO_FOLDER, NO_PLACE = ("{root}/nowhere", "{root}/weights.pth"), ("{root}/weights.pth/inside", "/proc/nowhere")
NO_NAME = ("", "nope", "../x")
WRONG = {
    "dataset": ("999", "x", "../x", ""),
    "trainers": NO_NAME,
    "trainer": NO_NAME,
    "plans": NO_NAME,
    "base": NO_NAME,
    "configuration": ("3d_fullres", "../x"),
    "preset": NO_NAME,
    "ablation": (*NO_NAME, "c2-add"),
    "departures": NO_NAME,
    "settings": ("batch_size", "nonsense=1", "training.num_epochs=-1", "batch_size=null"),
    "name": ("", "..", "a/b", "x" * 300),
    "folds": ("x", "-1", "99", "0-"),
    "fold": ("x", "-1", "99"),
    "processes": (*NO_WHOLE_NUMBER, "0"),
    "cpus": (*NO_WHOLE_NUMBER, "0"),
    "mem": (*NO_NUMBER, "0"),
    "seeds": ("x", "0-", "3-1"),
    "case": NO_NAME,
    "class_name": NO_NAME,
    "checkpoint": NO_NAME,
    "dataset_id": (*NO_WHOLE_NUMBER, "0", "1000"),
    "source": (*NO_FOLDER, "{root}/present"),
    "images": (*NO_FOLDER, "{root}/present", "{root}/folders"),
    "predictions": (*NO_FOLDER, "{root}/present"),
    "labels": (*NO_FOLDER, "{root}/present"),
    "djfile": NO_FOLDER,
    "evaluations": (*NO_FOLDER, "{root}/present"),
    "check": (*NO_FOLDER, "{root}/present"),
    "output": NO_PLACE,
    "folder": NO_PLACE,
    "release": NO_NAME,
    "metrics": NO_NAME,
    "slurm": ("x", "=", "a=1=\n"),
    "gpus": ("x", "-1"),
    "time": ("x", "-1"),
    **dict.fromkeys(("empty", "average", "miou", "f1", "distances"), NO_NAME),
}
"""Of options whose type does not say what is wrong, by the name that the parser gives them."""
ANYTHING_GOES = {
    "title": "any text is a title",
    "partition": "only the cluster knows its names",
    "account": "only the cluster knows its names",
}
SLURM = {
    (command, option): COMMANDS[command].replace("--dry-run", "--executor slurm")
    for command in ("crossval", "predict")
    for option in ("gpus", "cpus", "mem", "time", "slurm")
}
BESIDE = {
    ("evaluate", "labels"): "-i {root}/predictions -np 1",
    ("evaluate", "predictions"): "-l {root}/labels -np 1",
    ("evaluate", "djfile"): "-i {root}/predictions -l {root}/labels -np 1",
    ("predict", "output"): COMMANDS["predict"].replace("--dry-run", ""),
    ("splits", "seed"): "-d 1 --scheme five-fold",
    ("splits", "scheme"): "-d 1",
    ("weights", "patch"): "--check {root}/weights.pth",
    ("weights", "channels"): "--check {root}/weights.pth",
    **SLURM,
}
"""What stands beside an option where it is not the command line that is right."""


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command that can be typed."""
    return dict(_leaves(_parser(), ""))


def wrong_options() -> Iterator[tuple[str, list[str]]]:
    """A name and the arguments after the command's own, for every option at every wrong value."""
    for command, parser in commands().items():
        for action in parser._actions:
            for value in wrong_values(action):
                option = max(action.option_strings, key=len, default="")
                shown = f"{command} {option or action.dest} {value[:20]!r}"
                yield shown, [*command.split(), *_typed(command, action, option, value)]


def wrong_values(action: argparse.Action) -> tuple[str, ...]:
    """What may not be given; for a flag, any value."""
    if isinstance(action, argparse._HelpAction | argparse._VersionAction | argparse._SubParsersAction):
        return ()
    if action.dest in ANYTHING_GOES:
        return ()
    if action.nargs == 0:
        return ("a value",)
    if action.choices:
        return ("nonsense",)
    if action.dest in WRONG:
        return WRONG[action.dest]
    return {int: NO_WHOLE_NUMBER, float: NO_NUMBER}[action.type]


def _typed(command: str, action: argparse.Action, option: str, value: str) -> list[str]:
    beside = BESIDE.get((command, action.dest), COMMANDS[command]).split()
    if not option:
        return [value, *beside[1:]]
    if isinstance(action.nargs, int) and action.nargs > 1:
        return [*beside, option, *[value] * action.nargs]
    return [*beside, f"{option}={value}"]


def _leaves(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    deeper = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in deeper:
        for word, inner in action.choices.items():
            yield from _leaves(inner, f"{name} {word}".strip())
    if not deeper:
        yield name, parser
