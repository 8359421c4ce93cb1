"""Whether preprocessed data is still what nnUNet_raw holds: nnU-Net itself never looks back at the raw files."""

import filecmp
import os
from collections.abc import Sequence
from pathlib import Path

from nnunet_sfma.files import write_beside
from nnunet_sfma.nnunet_folders import dataset_id
from nnunet_sfma.raw_cases import raw_cases
from nnunet_sfma.sentences import first_few

REFERENCES = "gt_segmentations"
ENDINGS = (".pkl", ".b2nd", "_seg.b2nd", ".npz")


def outdated_cases(raw: Path, preprocessed: Path, data_identifier: str) -> list[str]:
    """Return the cases of nnUNet_raw that are not preprocessed, or were changed since.

    A case counts as changed if one of its files, of any channel, is newer than its preprocessed files, or if its label
    is another than the copy that nnU-Net evaluates against. The latter holds whatever the clocks say: ``rsync -a`` and
    other machines' clocks make corrected labels that are older than what was made of the wrong ones.

    Args:
        raw: the data set's folder in nnUNet_raw; nothing is outdated where it is not there.
        preprocessed: its folder in nnUNet_preprocessed.
        data_identifier: the folder of a configuration's data in it, as the plans call it.

    Raises:
        UserError: if dataset.json is damaged.
    """
    folder, references = preprocessed / data_identifier, preprocessed / REFERENCES
    return [
        case
        for case, files in raw_cases(raw).items()
        if _is_changed((*files.images, files.label, references / files.copy), folder / case)
        or _differ(files.label, references / files.copy)
    ]


def renew_references(raw: Path, preprocessed: Path) -> None:
    """Replace the copies in gt_segmentations that hold something else than the labels in nnUNet_raw.

    nnU-Net replaces a copy only by a newer label, and gives it the label's time. These are new: newer than all data
    that was made of the old labels, of whatever plans it is.
    """
    for files in raw_cases(raw).values():
        copy = preprocessed / REFERENCES / files.copy
        if _differ(files.label, copy):
            os.replace(write_beside(copy, files.label.read_bytes()), copy)


def outdated_sentence(cases: Sequence[str], raw: Path, mending: str) -> str:
    """Return what to tell of outdated cases; ``mending`` says how they are preprocessed again."""
    number = "1 case is" if len(cases) == 1 else f"{len(cases)} cases are"
    return (
        f"{number} in {raw} otherwise than preprocessed ({first_few(cases)}), and the preprocessed state is what "
        f"is trained and evaluated: {mending}."
    )


def preprocess_again(preprocessed: Path, plans: str, configuration: str) -> str:
    """Return the commands that preprocess a data set whatever the clocks say, as the end of a sentence.

    Labels that are copied by hand are newer than all data; nnU-Net's copies have the labels' time. Where the labels
    cannot be seen from here, as on a machine without nnUNet_raw, nnU-Net has to find and copy them.
    """
    references = preprocessed / REFERENCES
    labels = Path(os.environ.get("nnUNet_raw", ""), preprocessed.name, "labelsTr")
    renew = f"rm -r {references} && cp -r {labels} {references}"
    if not labels.is_dir():
        renew = f"mv {references} {references}.old"
    return (
        f"run {renew} && nnUNetv2_preprocess -d {dataset_id(preprocessed.name)} -plans_name {plans} -c {configuration}"
    )


def _differ(label: Path, copy: Path) -> bool:
    """Whether both files are there and hold different things."""
    return label.is_file() and copy.is_file() and not filecmp.cmp(label, copy, shallow=False)


def _is_changed(files: Sequence[Path], made: Path) -> bool:
    written = [path.stat().st_mtime_ns for path in (Path(f"{made}{ending}") for ending in ENDINGS) if path.is_file()]
    sources = [path.stat().st_mtime_ns for path in files if path.is_file()]
    return not written or max(sources, default=0) > min(written)
