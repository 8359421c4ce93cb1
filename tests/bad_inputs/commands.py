"""Every command, as it is right: what the bad inputs are made of."""

from pathlib import Path

TRAINER = "nnUNetTrainerSFMANet"
MODEL = f"{TRAINER}__tiny__2d"
OF_MODEL = f"-d 1 -tr {TRAINER} -p tiny"
RAW, MADE = "{root}/nnUNet_raw/Dataset001_Plain", "{root}/present"
RELEASES = {
    "acdc": "acdc",
    "atlas": "atlas-r2.0",
    "glas": "glas",
    "isic2017": "isic2017",
    "isic2018": "isic2018",
    "isles2022": "isles-zenodo",
    "synapse": "synapse",
}

COMMANDS = {
    "demo": f"-o {MADE}/demo -device cpu",
    **{
        f"convert {dataset}": f"{{root}}/releases/{release}/release -d {700 + number} -np 1"
        for number, (dataset, release) in enumerate(RELEASES.items())
    },
    "convert phantom": "--cases 5 -d 720 -np 1",
    "splits": "-d 1 --check",
    "plan": "-d 1 --preset sfmanet-narrow --name made -np 1",
    "stack": f"-d 4 -i {{root}}/nnUNet_raw/Dataset004_ISLES2022_slices256/labelsTr -o {MADE}/volumes",
    "crossval": f"{OF_MODEL} --folds 0 -device cpu -np 1 --dry-run",
    "status": "-d 1",
    "predict": f"{OF_MODEL} -f 0 -i {RAW}/imagesTs -o {{root}}/predicted -device cpu -np 1 --dry-run",
    "evaluate": f"{OF_MODEL} -f 0 -np 1",
    "compare": "{root}/nnUNet_results/Dataset001_Plain/" + MODEL,
    "report": "{root}/nnUNet_results/Dataset001_Plain/" + MODEL + f" -o {MADE}/report.html",
    "explain": f"{OF_MODEL} -f 0 --case case_0",
    "networks": "",
    "weights": "",
    "doctor": "",
}


def whole(command: str, *more: str, root: Path) -> list[str]:
    """The arguments of a command that is right, and more of them, which may repeat and replace some."""
    return [word.format(root=root) for word in [*command.split(), *COMMANDS[command].split(), *more]]
