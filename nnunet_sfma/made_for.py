"""What preprocessed data was made for: the entries of the plans on which it depends, kept beside it.

nnU-Net keeps no such note, and plans of the same name may have been replaced since. The note lies in a folder within
that of the data, for nnU-Net looks at the files there; with the data, nnU-Net removes the note.
"""

import json
from contextlib import suppress
from pathlib import Path

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_sfma.errors import UserError
from nnunet_sfma.files import replace_text
from nnunet_sfma.json_files import read_json
from nnunet_sfma.nnunet_files import read_plans
from nnunet_sfma.nnunet_folders import dataset_id
from nnunet_sfma.preprocessed_size import is_of_spacing
from nnunet_sfma.sentences import first_few

NOTE = Path("nnunet_sfma", "made_for.json")
OF_PLANS = ("image_reader_writer", "transpose_forward")
INTENSITIES = ("foreground_intensity_properties_per_channel",)
OF_CONFIGURATION = (
    "preprocessor_name",
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg",
    "resampling_fn_seg_kwargs",
)
SCHEMA = {"type": "object", "required": ["made_for"], "properties": {"made_for": {"type": "object"}}}


def note_made_for(plans: dict, configuration: str, preprocessed: Path) -> None:
    """Write down that the data of a configuration, which is all there, was made for these plans.

    Args:
        plans: as in their file.
        configuration: for instance "2d".
        preprocessed: the data set's folder in nnUNet_preprocessed.
    """
    _write(_data(plans, configuration, preprocessed), _relevant(plans, configuration))


def note_before_replacing(path: Path, new: dict, configuration: str) -> None:
    """Write down, before a plans file is replaced, that its data was made for the old plans.

    What is noted already stays. It is known from then on, even if nobody comes to preprocess for the new plans.

    Args:
        path: the file, in the data set's folder in nnUNet_preprocessed.
        new: plans that will be in it.
        configuration: for instance "2d".
    """
    data = _data(new, configuration, path.parent)
    if not data.is_dir() or (data / NOTE).is_file():
        return
    made_for = {}  # no plans: whatever the data was made for, it was others
    with suppress(UserError, KeyError):
        old = read_plans(path)
        if _data(old, configuration, path.parent) == data:
            made_for = _relevant(old, configuration)
    _write(data, made_for)


def changed_since_made(plans: dict, configuration: str, preprocessed: Path) -> list[str]:
    """Return the entries of the plans that are others than those the data was made for.

    Where no note is, as after ``nnUNetv2_preprocess``, data that is called after other plans counts as made for these;
    and if a few cases are not as large as they would be at the plans' spacing, the data is of another one. Plans that
    share data of a name of their own and differ in the normalisation alone cannot be told apart then.

    Raises:
        UserError: if the note is damaged.
    """
    data = _data(plans, configuration, preprocessed)
    if (data / NOTE).is_file():
        made_for = read_json(data / NOTE, SCHEMA, advice=f"remove {data} and preprocess again")["made_for"]
        return _different(made_for, plans, configuration)
    made_for = _wanted_by_owner(data, plans, configuration)
    different = [] if made_for is None else _different(made_for, plans, configuration)
    return different or ([] if is_of_spacing(data, PlansManager(plans), configuration) else ["spacing"])


def _different(made_for: dict, plans: dict, configuration: str) -> list[str]:
    now = _relevant(plans, configuration)
    return sorted(key for key in {*made_for, *now} if _text(made_for.get(key)) != _text(now.get(key)))


def _wanted_by_owner(data: Path, plans: dict, configuration: str) -> dict | None:
    """What those plans ask for that the data is called after, such as nnU-Net's; None where these are the same."""
    owner = data.with_name(f"{data.name.removesuffix(f'_{configuration}')}.json")
    if owner.stem == plans["plans_name"] or not owner.is_file():
        return None
    with suppress(UserError, KeyError):
        others = read_plans(owner)
        if _data(others, configuration, data.parent) == data:
            return _relevant(others, configuration)
    return None


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)  # in which one NaN is like another


def refuse_data_of_other_plans(plans: dict, configuration: str, preprocessed: Path) -> None:
    """Refuse to train or validate with data that was preprocessed for other plans.

    Raises:
        UserError: if the note beside the data says so, or is damaged.
    """
    changed = changed_since_made(plans, configuration, preprocessed)
    if changed:
        raise UserError(
            f"{_data(plans, configuration, preprocessed)} was preprocessed for other plans than '{plans['plans_name']}'"
            f" are now ({first_few(changed)}): {_advice(plans, configuration, preprocessed)}."
        )


def _advice(plans: dict, configuration: str, preprocessed: Path) -> str:
    """What to do; nnU-Net would put the data of these plans in the place of that of others who share the folder."""
    data, name, sharing = _data(plans, configuration, preprocessed), plans["plans_name"], []
    for path in sorted(preprocessed.glob("*.json")):
        with suppress(UserError, KeyError):
            others = read_plans(path)
            is_shared = path.stem != name and _data(others, configuration, preprocessed) == data
            if is_shared and _different(_relevant(others, configuration), plans, configuration):
                sharing.append(path.stem)
    command = f"nnUNetv2_preprocess -d {dataset_id(preprocessed.name)} -plans_name {name} -c {configuration}"
    if sharing:
        return (
            f"{first_few(sharing)} share the data, so make these plans again with nnunet-sfma plan --overwrite, or if "
            f"you wrote them by hand, let their data_identifier be '{name}_{configuration}' and run {command}"
        )
    return f"run {command}"


def _write(data: Path, made_for: dict) -> None:
    (data / NOTE).parent.mkdir(exist_ok=True)
    replace_text(data / NOTE, json.dumps({"made_for": made_for}, indent=2) + "\n")


def _data(plans: dict, configuration: str, preprocessed: Path) -> Path:
    return preprocessed / PlansManager(plans).get_configuration(configuration).data_identifier


def _relevant(plans: dict, configuration: str) -> dict:
    block = PlansManager(plans).get_configuration(configuration).configuration
    of_plans = OF_PLANS + (INTENSITIES if "CTNormalization" in block["normalization_schemes"] else ())
    return {key: plans.get(key) for key in of_plans} | {key: block.get(key) for key in OF_CONFIGURATION}
