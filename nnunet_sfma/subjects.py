"""Whom the cases of a data set show, where its user says so: ``subjects.json`` beside ``dataset.json`` in nnUNet_raw.

It is an object with the subject of every case, ``{"case_01_day_1": "case_01", "case_01_day_9": "case_01", ...}``. Data
sets that this package converted say it in ``provenance.json``; what the user declares counts more.
"""

from pathlib import Path

from nnunet_sfma.json_files import BARE_NAME, read_json

NAME = "subjects.json"
SUBJECTS = {
    "type": "object",
    "minProperties": 1,
    "propertyNames": BARE_NAME,
    "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 200},
}
HOW_TO_DECLARE = f'write a {NAME} with the subject of each case, {{"case": "subject", ...}}, beside its dataset.json'


def declared_subjects(raw: Path) -> dict[str, str]:
    """Return the subject of each case by nnU-Net's identifiers; nothing where none are declared.

    Args:
        raw: the data set's folder in nnUNet_raw.

    Raises:
        UserError: if the file is damaged.
    """
    path = raw / NAME
    if not path.exists():
        return {}
    return read_json(path, SUBJECTS, advice='write {"case": "subject", ...} with a text for each case, or remove it')
