"""``nnunet-sfma evaluate``: measure every case once, apply the conventions, aggregate, and write it down."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path

from nnunet_sfma import __version__
from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.conventions import Conventions
from nnunet_sfma.evaluation.environment import hardware, versions
from nnunet_sfma.evaluation.evaluation_file import NAME, read_evaluation, to_json
from nnunet_sfma.evaluation.lesions import detection_by_size
from nnunet_sfma.evaluation.measure import MEASURED, EvaluatedCase, Measuring, measure_case
from nnunet_sfma.evaluation.metrics import METRICS, OBJECTS, OVERLAPS, class_metrics, ious, mean, unit_of
from nnunet_sfma.evaluation.model_cost import count_cost
from nnunet_sfma.evaluation.schema import FORMAT
from nnunet_sfma.evaluation.sources import Source, if_there
from nnunet_sfma.evaluation.summary import summarise
from nnunet_sfma.evaluation.tables import cases_csv, summary_csv
from nnunet_sfma.files import replace_texts, sha256
from nnunet_sfma.json_files import parse_json
from nnunet_sfma.made_by import command_of
from nnunet_sfma.nnunet_files import channel_names
from nnunet_sfma.nnunet_folders import make_writable_folder
from nnunet_sfma.subjects import declared_subjects
from nnunet_sfma.workers import in_parallel

CACHE = "measurements.jsonl"
CACHED = {
    "type": "object",
    "required": ["key", "measured"],
    "properties": {"key": {"type": "string"}, "measured": MEASURED},
}
DEFAULT_PLANNER = "ExperimentPlanner"
SIZE_EDGES = {"ml": (0, 0.1, 1, 10), "pixel": (0, 100, 1000, 10000)}


def evaluate(
    source: Source, conventions: Conventions, output: Path | None = None, processes: int = 1, command: str = ""
) -> dict:
    """Evaluate all cases and write ``evaluation.json``, ``cases.csv`` and ``summary.csv``.

    Cases whose files have not changed are not measured again, whatever the conventions on empty masks and means.

    Args:
        source: what to evaluate.
        conventions: how numbers are made.
        output: folder; the source's own if None.
        processes: how many cases at a time.
        command: what the user typed, for the record.

    Returns:
        What stands in ``evaluation.json``, with "path".

    Raises:
        UserError: if a case cannot be evaluated or the folder not be written; an older evaluation stays then.
    """
    output = output or source.output
    how = source.measuring(conventions)
    conventions = replace(conventions, distances=how.distances)
    is_new = not output.exists()
    make_writable_folder(output)
    try:
        measured = _measure(source.cases, how, output / CACHE, processes)
    except BaseException:
        if is_new and not any(output.iterdir()):
            output.rmdir()
        raise
    evaluation = _assemble(source, conventions, how, measured, command)
    replace_texts(
        {
            output / NAME: to_json(evaluation),
            output / "cases.csv": cases_csv(evaluation),
            output / "summary.csv": summary_csv(evaluation),
        }
    )
    return read_evaluation(output / NAME)


# measuring, with what was measured before


def _measure(cases: Sequence[EvaluatedCase], how: Measuring, cache: Path, processes: int) -> list[dict]:
    known = _read_cache(cache)
    keys = [_key(files, how) for files in cases]
    new = [(files, key) for files, key in zip(cases, keys, strict=True) if key not in known]
    jobs = [(files, how) for files, _ in new]
    results = in_parallel(measure_case, jobs, min(processes, len(jobs)), "Evaluating") if jobs else ()
    for (_, key), result in zip(new, results, strict=True):
        known[key] = result
        _append(cache, {"key": key, "measured": result})
    return [known[key] for key in keys]


def _read_cache(path: Path) -> dict[str, dict]:
    """What earlier runs measured; a line that is unfinished or not ours is passed over."""
    known = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        with contextlib.suppress(UserError):
            entry = parse_json(line, CACHED, source=str(path))
            known[entry["key"]] = entry["measured"]
    return known


def _append(cache: Path, entry: dict) -> None:
    """A line of its own, even behind one that an interrupted run left unfinished."""
    try:
        with open(cache, "a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(entry) + "\n")
    except OSError as error:
        raise UserError(f"Could not write {cache} ({error.strerror}): make room or choose another -o.") from None


def _key(files: EvaluatedCase, how: Measuring) -> str:
    """Of the files' content and the way of measuring."""
    label_maps = [files.prediction, files.reference]
    # nnU-Net keeps the spacing of a TIFF beside it
    spacings = [if_there(path.with_suffix(".json")) for path in label_maps]
    paths = [*label_maps, files.instances, files.probabilities, *spacings]
    try:
        contents = [sha256(path) if path else None for path in paths]
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror}): restore it, or leave the case out."
        ) from None
    return hashlib.sha256(json.dumps([contents, how.identity()]).encode()).hexdigest()


# from measurements to numbers


def _assemble(source: Source, conventions: Conventions, how: Measuring, measured: list[dict], command: str) -> dict:
    subjects = _subjects(source)
    cases = [
        _case(files, each, conventions, source, subjects) for files, each in zip(source.cases, measured, strict=True)
    ]
    subjects_known = all(case["subject"] for case in cases)
    chosen = asdict(conventions)
    if conventions.average == "slice":
        chosen["slice_axis"] = how.slice_axis
    with_objects = any("objects" in each for case in measured for each in case["classes"].values())
    keys = [key for key in METRICS if _is_measured(key, how, with_objects)]
    volume_unit = "pixel" if how.picture else "ml"
    return {
        "format": FORMAT,
        "written_by": f"nnunet-sfma {__version__}",
        "written_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "name": source.name,
        "dataset": _dataset(source, how, volume_unit),
        "model": _model(source, how),
        "conventions": chosen,
        "convention": f"{conventions}" + (f", slice_axis={how.slice_axis}" if "slice_axis" in chosen else ""),
        "convention_texts": conventions.texts(ignoring=how.ignore_label is not None),
        "metrics": [{**asdict(METRICS[key]), "unit": unit_of(METRICS[key], conventions, volume_unit)} for key in keys],
        "split": {**source.split, "subjects_known": subjects_known},
        "folds": source.folds,
        "missing": source.missing,
        "cases": cases,
        "summary": None
        if source.missing
        else summarise(
            measured,
            keys,
            conventions,
            [case["fold"] for case in cases],
            [case["subject" if subjects_known else "case"] for case in cases],
        ),
        "detection_by_size": None
        if source.missing or how.ignore_label is not None
        else _detection(cases, list(how.classes), volume_unit),
        "subset": source.subset,
        "commands": _commands(source, command),
        "versions": versions(),
        "hardware": hardware(),
    }


def _is_measured(key: str, how: Measuring, with_objects: bool) -> bool:
    if how.ignore_label is not None:
        return key in (*OVERLAPS, "miou")
    return with_objects or key not in OBJECTS


def _subjects(source: Source) -> dict[str, str]:
    """Whom each case shows, where its user or a conversion of ours says so; slices share their volume's subject."""
    converted = {
        identifier: entry["subject"]
        for case, entry in source.provenance.get("cases", {}).items()
        for identifier in (case, *entry.get("slices", ()))
    }
    return converted | (declared_subjects(source.raw) if source.raw else {})


def _case(
    files: EvaluatedCase, measured: dict, conventions: Conventions, source: Source, subjects: dict[str, str]
) -> dict:
    extras = ("volume_reference", "volume_prediction", "lesions")
    classes = {
        name: {**class_metrics(each, conventions)[0], **{key: each.get(key) for key in extras}}
        for name, each in measured["classes"].items()
    }
    keys = [key for key in next(iter(classes.values())) if key in METRICS]
    means = {key: mean([metrics[key] for metrics in classes.values()]) for key in keys}
    means["miou"] = mean([iou for iou, _ in ious(measured, conventions)])
    return {
        "case": files.case,
        "fold": files.fold,
        "subject": subjects.get(files.case),
        "prediction": files.prediction.resolve(),
        "reference": files.reference.resolve(),
        "reference_sha256": measured["reference_sha256"],
        "images": [path.absolute() for path in source.images_of(files.case)],
        "spacing": measured["spacing"],
        "shape": measured["shape"],
        "classes": classes,
        "mean": means,
    }


def _detection(cases: list[dict], classes: list[str], unit: str) -> dict:
    edges = SIZE_EDGES[unit]
    return {
        name: [
            {**size, "unit": unit}
            for size in detection_by_size([case["classes"][name]["lesions"] for case in cases], edges)
        ]
        for name in classes
    }


# where it comes from


def _dataset(source: Source, how: Measuring, volume_unit: str) -> dict:
    options = dict(source.provenance.get("options") or {})
    if source.resized:  # masks that predict brought back are compared with labels that nobody resized
        options["size"] = source.resized["size"][0]
    return {
        "name": source.dataset_name,
        "file_ending": source.dataset_json["file_ending"],
        "channels": channel_names(source.dataset_json),
        "classes": list(how.classes),
        "class_labels": how.classes,
        "background_label": 0,
        "ignore_label": how.ignore_label,
        "unit": how.distances,
        "volume_unit": volume_unit,
        "slice_axis": how.slice_axis,
        "release": options.get("release"),
        "release_options": {key: value for key, value in options.items() if key != "release"},
    }


def _model(source: Source, how: Measuring) -> dict | None:
    resolved = source.resolved()
    if resolved is None:
        return None
    architecture = resolved.get("architecture", {})
    return {
        "trainer": source.trainer,
        "plans": source.plans["plans_name"],
        "configuration": source.configuration,
        "folder": source.model_folder.absolute() if source.model_folder else None,
        "network": architecture.get("network_class_name", "").split(".")[-1],
        "architecture": architecture,
        "training": resolved.get("training"),
        "patch_size": resolved["patch_size"],
        "batch_size": resolved["batch_size"],
        "spacing": resolved["spacing"],
        "normalization": resolved["normalization_schemes"],
        # a cascade's network also sees the segmentation of the stage before
        "cost": None
        if resolved.get("previous_stage")
        else count_cost(architecture, len(channel_names(source.dataset_json)), resolved["patch_size"], how.classes),
    }


def _commands(source: Source, command: str) -> list[str]:
    """What leads here, as far as the files tell; the plans themselves stand in the model's folder."""
    split = source.split.get("scheme")
    number = source.dataset_name[7:10].lstrip("0")
    converted = source.provenance.get("command")  # not in data sets that earlier versions converted
    commands = [converted] if converted else []
    if split in ("five-fold", "paper"):
        seed = f" --seed {source.split['seed']}" if source.split.get("seed") is not None else ""
        commands.append(f"nnunet-sfma splits -d {number} --scheme {split}{seed}")
    if source.folds:
        planner = source.plans.get("experiment_planner_used", DEFAULT_PLANNER)
        option = f" -pl {planner}" if planner != DEFAULT_PLANNER else ""
        commands.append(f"nnUNetv2_plan_and_preprocess -d {number} -c {source.configuration}{option}")
        commands += filter(None, [command_of(source.plans)])
        commands += [fold["command"] for fold in source.folds if fold["state"] != "not trained"]
    return [*commands, *([command] if command else [])]
