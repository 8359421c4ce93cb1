"""The tables and findings in README's section on results, from the committed result files.

python benchmarks/learning/readme.py
"""

import json
from collections.abc import Iterable, Sequence

from record import RESULTS

NETWORKS = ("network", "parameters (M)", "multiply-adds (M)", "Dice", "Dice of folds", "HD95 (mm)")
PAIRS = ("difference in Dice", "mean [95 % interval]", "p (Holm)")
ABLATION = ("network", "parameters (M)", "multiply-adds (M)", "Dice", "difference to the U-Net", "p (Holm)")
END_TO_END = ("data set", "trained on", "iterations", "predicted", "Dice")
CHECKS = ("check", "what came out", "holds")
RELEASES = {"acdc": "ACDC", "glas": "GlaS", "isic2017": "ISIC 2017"}
SIGNIFICANT = 0.05


def main() -> None:
    print("\n\n".join([*tables(), *findings()]))


def tables() -> list[str]:
    """Every table, as Markdown."""
    study = read("hippocampus")
    return [networks(study), pairs(study), ablation(study), checks(read("sanity")), end_to_end()]


def findings() -> list[str]:
    """What came out of the study, a clause for the four networks and one for the ablation."""
    study = read("hippocampus")
    return [_finding(study, group) for group in ("networks", "ablation")]


def read(name: str) -> dict:
    """A committed result."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def networks(study: dict) -> str:
    """The networks of the study: mean and deviation over cases and, for Dice, over folds, of the mean over classes."""
    rows = []
    for name in study["groups"]["networks"]:
        model = study["models"][name]
        dice, distance = (model["summary"]["mean"][metric] for metric in ("dice", "hd95"))
        over_folds = f"{dice['mean_of_folds']:.3f} ± {dice['sd_of_folds']:.3f}"
        rows.append((*_cost(model), _spread(dice, 3), over_folds, _of_all(distance, dice["n"])))
    return _markdown(NETWORKS, rows)


def pairs(study: dict) -> str:
    """Paired tests between the networks, of the mean Dice over classes."""
    titles = {name: model["title"] for name, model in study["models"].items()}
    rows = [
        (f"{titles[test['a']]} - {titles[test['b']]}", *_difference(test)) for test in _tests_of_dice(study, "networks")
    ]
    return _markdown(PAIRS, rows)


def ablation(study: dict) -> str:
    """The rows of SFMANet's ablation, each against the U-Net of the same width."""
    first, *others = study["groups"]["ablation"]
    against_first = {test["b"]: test for test in _tests_of_dice(study, "ablation") if test["a"] == first}
    rows = []
    for name in (first, *others):
        model = study["models"][name]
        difference = ("", "") if name == first else _difference(against_first[name], sign=-1)
        rows.append((*_cost(model), _spread(model["summary"]["mean"]["dice"], 3), *difference))
    return _markdown(ABLATION, rows)


def checks(sanity: dict) -> str:
    """The three checks of learning."""
    overfit, repeat, shuffled = (sanity[name] for name in ("overfit", "repeat", "shuffled"))
    losses = repeat["curves"]["first"]["train_losses"]
    rows = [
        (
            f"{overfit['pictures']} pictures learnt by heart: Dice above {overfit['above']} on them",
            _named(overfit["dice"]),
        ),
        ("one seed, one learning curve; another seed, another curve", f"{len(losses)} epochs compared"),
        (
            f"masks of other pictures teach nothing: Dice on {shuffled['pictures']['held_out']} held-out pictures less "
            f"than {shuffled['margin']} above that of the best constant mask; true masks: more",
            _named(shuffled["dice"]),
        ),
    ]
    holds = ["yes" if check["holds"] else "no" for check in (overfit, repeat, shuffled)]
    return _markdown(CHECKS, [(*row, held) for row, held in zip(rows, holds, strict=True)])


def end_to_end() -> str:
    """The data sets that were taken through every command with a few cases."""
    rows = []
    for name, title in RELEASES.items():
        result = read(f"end_to_end_{name}")
        column = result["columns"].index("dice")
        dice = [row[column] for row in result["cases"] if row[column] is not None]
        predicted = len({row[0] for row in result["cases"]})
        values = f"{min(dice):.2f} to {max(dice):.2f}"
        rows.append((title, f"{result['training_cases']} cases", result["iterations"], f"{predicted} others", values))
    return _markdown(END_TO_END, rows)


def _finding(study: dict, group: str) -> str:
    tests = _tests_of_dice(study, group)
    differ = [test for test in tests if test["p_holm"] < SIGNIFICANT]
    best = max(study["groups"][group], key=lambda name: study["models"][name]["summary"]["mean"]["dice"]["mean"])
    return (
        f"{len(differ)} of the {len(tests)} pairs differ in mean Dice at p < {SIGNIFICANT}; "
        f"the highest is that of {study['models'][best]['title']}"
    )


def _tests_of_dice(study: dict, group: str) -> list[dict]:
    return [test for test in study["tests"][group] if (test["metric"], test["class_name"]) == ("dice", "mean")]


def _cost(model: dict) -> tuple[str, str, str]:
    cost = model["cost"]
    return model["title"], f"{cost['parameters'] / 1e6:.2f}", f"{cost['multiply_adds'] / 1e6:.0f}"


def _named(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def _spread(entry: dict, digits: int) -> str:
    return f"{entry['mean']:.{digits}f} ± {entry['sd']:.{digits}f}"


def _of_all(entry: dict, cases: int) -> str:
    """A spread, with the number of cases that have a value if some have none."""
    return _spread(entry, 2) + (f" (of {entry['n']} cases)" if entry["n"] < cases else "")


def _difference(test: dict, sign: int = 1) -> tuple[str, str]:
    mean, *interval = (sign * test[key] for key in ("mean_difference", "low", "high"))
    p = test["p_holm"]
    return f"{mean:+.4f} [{min(interval):+.4f}, {max(interval):+.4f}]", "< 0.001" if p < 0.001 else f"{p:.3f}"


def _markdown(captions: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [captions, ["---", *["---:"] * (len(captions) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


if __name__ == "__main__":
    main()
