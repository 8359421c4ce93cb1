"""The tables in README's section on results, from the committed result files: what ``main`` prints, the README holds.

python benchmarks/learning/readme.py
"""

import json
from collections.abc import Iterable, Sequence

from record import RESULTS

NETWORKS_CAPTION = (
    "network",
    "parameters (M)",
    "multiply-adds (M)",
    "Dice",
    "over folds",
    "HD95 (mm)",
    "minutes a fold",
)
ABLATION_CAPTION = ("network", "parameters (M)", "multiply-adds (M)", "Dice", "difference to the U-Net", "p (Holm)")
END_TO_END_CAPTION = ("data set", "trained on", "predicted", "iterations", "Dice", "minutes in all")
SANITY_CAPTION = ("check", "what came out", "holds")
RELEASES = {"acdc": "ACDC", "glas": "GlaS", "isic2017": "ISIC 2017"}


def main() -> None:
    print("\n\n".join(tables()))


def tables() -> list[str]:
    """Every table, as Markdown."""
    study, sanity = read("hippocampus"), read("sanity")
    return [networks(study), pairs(study), ablation(study), end_to_end(), checks(sanity)]


def read(name: str) -> dict:
    """A committed result."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def networks(study: dict) -> str:
    """The networks of the study, mean and standard deviation over cases, mean over classes."""
    rows = []
    for name in study["groups"]["networks"]:
        model = study["models"][name]
        dice, distance = (model["summary"]["mean"][metric] for metric in ("dice", "hd95"))
        minutes = sum(fold["seconds"] for fold in model["folds"]) / len(model["folds"]) / 60
        over_folds = f"{dice['mean_of_folds']:.3f} ± {dice['sd_of_folds']:.3f}"
        rows.append((*_cost(model), _spread(dice, 3), over_folds, _spread(distance, 2), f"{minutes:.1f}"))
    return _markdown(NETWORKS_CAPTION, rows)


def pairs(study: dict) -> str:
    """Paired tests between the networks, of the mean Dice over classes."""
    titles = {name: model["title"] for name, model in study["models"].items()}
    rows = [
        (f"{titles[test['a']]} - {titles[test['b']]}", *_difference(test))
        for test in study["tests"]["networks"]
        if (test["metric"], test["class_name"]) == ("dice", "mean")
    ]
    return _markdown(("difference in Dice", "mean [95 % interval]", "p (Holm)"), rows)


def ablation(study: dict) -> str:
    """The rows of SFMANet's ablation, each against the U-Net of the same width."""
    first, *others = study["groups"]["ablation"]
    tests = {
        test["b"]: test
        for test in study["tests"]["ablation"]
        if (test["metric"], test["class_name"], test["a"]) == ("dice", "mean", first)
    }
    rows = []
    for name in (first, *others):
        model = study["models"][name]
        difference = _difference(tests[name], sign=-1) if name in tests else ("", "")
        rows.append((*_cost(model), _spread(model["summary"]["mean"]["dice"], 3), *difference))
    return _markdown(ABLATION_CAPTION, rows)


def end_to_end() -> str:
    """The data sets that were taken through every command with a few cases."""
    rows = []
    for name, title in RELEASES.items():
        result = read(f"end_to_end_{name}")
        dice = [row[result["columns"].index("dice")] for row in result["cases"]]
        cases = {row[0] for row in result["cases"]}
        values = f"{min(dice):.2f} to {max(dice):.2f}"
        minutes = f"{sum(result['seconds'].values()) / 60:.0f}"
        rows.append((title, result["training_cases"], len(cases), result["iterations"], values, minutes))
    return _markdown(END_TO_END_CAPTION, rows)


def checks(sanity: dict) -> str:
    """The three checks of learning."""
    by_heart = ", ".join(f"{name} {dice:.3f}" for name, dice in sanity["overfit"]["dice"].items())
    curves = sanity["repeat"]["curves"]["first"]["train_losses"]
    shuffled = ", ".join(f"{name} {dice:.3f}" for name, dice in sanity["shuffled"]["dice"].items())
    held_out = sanity["shuffled"]["pictures"]["held_out"]
    rows = [
        (
            f"{sanity['overfit']['pictures']} pictures learnt by heart, Dice above {sanity['overfit']['above']}",
            by_heart,
        ),
        ("one seed, one curve", f"all of {len(curves)} epochs equal; another seed has another curve"),
        (f"masks of other pictures: no better than a constant mask on {held_out} held-out pictures", shuffled),
    ]
    holds = [sanity[name]["holds"] for name in ("overfit", "repeat", "shuffled")]
    return _markdown(SANITY_CAPTION, [(*row, "yes" if held else "no") for row, held in zip(rows, holds, strict=True)])


def _cost(model: dict) -> tuple[str, str, str]:
    cost = model["cost"]
    return model["title"], f"{cost['parameters'] / 1e6:.2f}", f"{cost['multiply_adds'] / 1e6:.0f}"


def _spread(entry: dict, digits: int) -> str:
    return f"{entry['mean']:.{digits}f} ± {entry['sd']:.{digits}f}"


def _difference(test: dict, sign: int = 1) -> tuple[str, str]:
    mean, low, high = (sign * test[key] for key in ("mean_difference", "low", "high"))
    low, high = sorted((low, high))
    p = test["p_holm"]
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]", "< 0.001" if p < 0.001 else f"{p:.3f}"


def _markdown(captions: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [captions, ["---", *["---:"] * (len(captions) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


if __name__ == "__main__":
    main()
