"""``nnunet-sfma``: one subcommand per thing a user wants to do; each imports its work only when it runs."""

import io
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from nnunet_sfma import __version__
from nnunet_sfma.errors import UserError
from nnunet_sfma.sentences import shortened
from nnunet_sfma.standard_argparse import argparse

MOST_NUMBERS = 1000
"""That a range such as 0-4 may stand for."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``nnunet-sfma``. What the user can put right ends in one sentence and exit code 1."""
    _escape_what_stdout_cannot_hold()
    words = sys.argv[1:] if argv is None else argv
    args = _parser().parse_args(words)
    args.typed = shlex.join(["nnunet-sfma", *words])
    try:
        args.run(args)
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(128 + 13) from None  # as if SIGPIPE had ended it
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _escape_what_stdout_cannot_hold() -> None:
    """As Python does for stderr: a plus-minus sign or a case's name must not end a command where stdout is ASCII."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nnunet-sfma", description="SFMANet and DANIE for nnU-Net v2.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_convert(commands)
    _add_splits(commands)
    _add_plan(commands)
    _add_stack(commands)
    _add_crossval(commands)
    _add_status(commands)
    _add_predict(commands)
    _add_evaluate(commands)
    _add_compare(commands)
    _add_report(commands)
    _add_explain(commands)
    _add_networks(commands)
    _add_weights(commands)
    _add_doctor(commands)
    return parser


def _add_demo(commands) -> None:
    parser = commands.add_parser("demo", help="train, predict and look at the result on a built-in stroke phantom")
    parser.add_argument("-o", dest="folder", type=Path, default=Path("nnunet-sfma-demo"), help="folder to work in")
    parser.add_argument("-device", choices=["cpu", "cuda"], default=None, help="default: cuda if there is one")
    parser.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> None:
    from nnunet_sfma.demo.run_demo import run_demo

    run_demo(args.folder, args.device)


def _add_convert(commands) -> None:
    parser = commands.add_parser("convert", help="turn a data set into nnU-Net raw format")
    parser.add_argument("--list", action="store_true", help="all data sets: size, licence, citation, where to apply")
    parser.add_argument("--json", action="store_true", help="with --list: as JSON")
    parser.set_defaults(run=_convert_list)
    datasets = parser.add_subparsers(metavar="DATASET")
    _add_size(_add_release(datasets, "acdc", "ACDC, cine MRI of the heart"))
    _add_slices(_add_release(datasets, "atlas", "ATLAS R1.1, R1.2 or R2.0, stroke on T1w MRI"))
    _add_size(_add_release(datasets, "glas", "GlaS (Warwick QU), glands in histology"))
    for year in ("2017", "2018"):
        _add_size(_add_release(datasets, f"isic{year}", f"ISIC {year} Task 1, skin lesions"), default=256)
    isles = _add_release(datasets, "isles2022", "ISLES 2022, the Zenodo release or the challenge sample")
    isles.add_argument("--modality", choices=["dwi", "adc", "flair", "dwi+adc"], default="dwi")
    _add_slices(isles)
    synapse = _add_release(datasets, "synapse", "Synapse / BTCV, abdominal CT")
    synapse.add_argument(
        "--labels",
        choices=["transunet", "cascade", "full"],
        default="transunet",
        help="8 organs in TransUNet's or CASCADE's order, or all 13",
    )
    _add_size(synapse)
    phantom = datasets.add_parser("phantom", help="the demo's stroke phantom")
    phantom.add_argument("--cases", type=int, default=20, help="how many for training")
    phantom.add_argument("--test-cases", type=int, default=0, help="how many for testing")
    phantom.add_argument("--seed", type=int, default=0, help="same seed, same voxels")
    _add_target(phantom)
    phantom.set_defaults(run=_convert_phantom)


def _add_release(datasets, name: str, text: str) -> argparse.ArgumentParser:
    parser = datasets.add_parser(name, help=text)
    parser.add_argument("source", type=Path, metavar="SRC", help="the unpacked release")
    parser.add_argument("--dry-run", action="store_true", help="only say what is there and what is missing")
    parser.add_argument("--json", action="store_true", help="with --dry-run: as JSON")
    _add_target(parser)
    parser.set_defaults(run=_convert_release, release=name)
    return parser


def _add_size(parser: argparse.ArgumentParser, default: int = 0) -> None:
    parser.add_argument(
        "--size",
        type=int,
        default=default,
        metavar="N",
        help="resize pictures, or all slices of volumes, as a whole to N x N pixels; 0 keeps the full resolution, of "
        f"which a training patch is a crop ({default})",
    )


def _add_slices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--paper-slices",
        action="store_true",
        help="write slices along X, resized to 256 x 256, as SFMANet's paper does",
    )
    parser.add_argument(
        "--slices", choices=["all", "lesion"], help="with --paper-slices: all of them (default) or those with lesion"
    )


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", dest="dataset_id", type=int, help="data set id to give it, 1 to 999")
    _add_processes(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the data set if it exists")


def _add_processes(parser: argparse.ArgumentParser) -> None:
    most = min(8, os.cpu_count() or 1)
    parser.add_argument("-np", dest="processes", type=_counted, default=most, help="worker processes")


def _counted(text: str) -> int:
    if not re.fullmatch(r"0*[1-9]\d{0,5}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"'{shortened(text)}' is no whole number from 1 on")
    return int(text)


def _convert_list(args: argparse.Namespace) -> None:
    from dataset_conversion.release import format_list, list_to_json

    if not args.list:
        raise UserError("Say which data set to convert, or --list to see them all.")
    print(list_to_json() if args.json else format_list())


def _convert_release(args: argparse.Namespace) -> None:
    from importlib import import_module

    from dataset_conversion.found import convert

    options = {key: getattr(args, key) for key in ("modality", "labels", "size") if hasattr(args, key)}
    found = import_module(f"dataset_conversion.{args.release}").find(args.source, **options)
    _cut_as_asked(args, found)
    if args.dry_run:
        _dry_run(found, args.json)
        return
    convert(found, _dataset_id(args), overwrite=args.overwrite, processes=args.processes, command=args.typed)


def _dry_run(found, as_json: bool) -> None:
    from dataset_conversion.found import describe, planned_sentence, problems_sentence, to_json

    print(to_json(found) if as_json else "\n".join(describe(found)))
    if found.all_problems:
        raise UserError(problems_sentence(found))
    if not as_json:
        print(f"  {planned_sentence(found)}")


def _cut_as_asked(args: argparse.Namespace, found) -> None:
    if not getattr(args, "paper_slices", False):
        if getattr(args, "slices", None):
            raise UserError("--slices says which of the --paper-slices to write.")
        return
    from dataset_conversion.paper_slices import prepare

    prepare(found, args.slices or "all")


def _dataset_id(args: argparse.Namespace) -> int:
    if args.dataset_id is None:
        raise UserError("Give the data set an id with -d, 1 to 999.")
    return args.dataset_id


def _convert_phantom(args: argparse.Namespace) -> None:
    from dataset_conversion.phantom import convert

    convert(
        args.cases,
        args.seed,
        _dataset_id(args),
        test_cases=args.test_cases,
        overwrite=args.overwrite,
        processes=args.processes,
        command=args.typed,
    )


def _add_splits(commands) -> None:
    parser = commands.add_parser(
        "splits",
        help="folds by patient, or the division of the paper",
        epilog="Whom the cases show stands in the provenance.json of a converted data set. Of any other, say it in a "
        'subjects.json beside its dataset.json: {"case_01_day_1": "patient_01", "case_01_day_9": "patient_01", ...}.',
    )
    parser.add_argument("-d", dest="dataset", required=True, help="id or name of a raw data set")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--scheme", choices=["five-fold", "paper"])
    action.add_argument(
        "--check", action="store_true", help="check the splits_final.json that is there, also before nnU-Net plans"
    )
    parser.add_argument("--seed", type=int, default=12345, help="of what is drawn at random (12345, as nnU-Net's)")
    parser.add_argument("--overwrite", action="store_true", help="replace other splits, of which a copy stays")
    parser.set_defaults(run=_splits)


def _splits(args: argparse.Namespace) -> None:
    from nnunet_sfma.planning.splits import check_splits, make_splits

    lines = (
        check_splits(args.dataset) if args.check else make_splits(args.dataset, args.scheme, args.seed, args.overwrite)
    )
    print("\n".join(lines))


def _add_plan(commands) -> None:
    parser = commands.add_parser("plan", help="make a plans file from a preset and nnU-Net's own plan")
    parser.add_argument("-d", dest="dataset", required=True, help="id or name of a data set that nnU-Net has planned")
    parser.add_argument("--preset", required=True, help="see nnunet-sfma networks")
    parser.add_argument(
        "--ablation", metavar="ROW", help="a row of its paper's ablation, such as unet+sfgu, with the preset's recipe"
    )
    parser.add_argument(
        "--set",
        dest="settings",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change an entry, such as training.num_epochs=100, architecture.iem_stages=3 or batch_size=8",
    )
    parser.add_argument("-p", dest="base", default="nnUNetPlans", help="nnU-Net's own plans to start from")
    parser.add_argument(
        "--slice-axis",
        choices=["x", "y", "z"],
        help="axis of the image file to slice along (default: nnU-Net's choice, the one of widest spacing)",
    )
    parser.add_argument(
        "--gpu-memory", type=float, metavar="GB", help="make the batch as large as an estimate says that fits"
    )
    parser.add_argument("--name", help="name of the new plans (default: the preset's, then ablation and slice axis)")
    _add_processes(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace plans of that name")
    parser.set_defaults(run=_plan)


def _plan(args: argparse.Namespace) -> None:
    from nnunet_sfma.planning.make_plans import make_plans
    from nnunet_sfma.planning.preprocessing import preprocess

    plans = make_plans(
        args.dataset,
        args.preset,
        args.settings,
        args.base,
        args.name,
        args.overwrite,
        args.slice_axis,
        args.gpu_memory,
        args.ablation,
    )
    print(f"Wrote {plans.path}")
    for note in plans.notes:
        print(note)
    if plans.preprocess_because:
        print(f"It needs preprocessed data of its own: {plans.preprocess_because}.")
        print(
            f"$ nnUNetv2_preprocess -d {args.dataset} -plans_name {plans.name} -c 2d -np {args.processes}", flush=True
        )
        if not preprocess(plans.path, args.processes, afresh=plans.replaced):
            print("All cases are preprocessed already.")
    print(f"Next: nnUNetv2_train {args.dataset} 2d FOLD -tr {plans.trainer} -p {plans.name}")


def _add_stack(commands) -> None:
    parser = commands.add_parser("stack", help="put predicted --paper-slices back into volumes")
    parser.add_argument("-d", dest="dataset", required=True, help="id or name of the raw data set of slices")
    parser.add_argument("-i", dest="predictions", type=Path, required=True, help="folder with the predicted slices")
    parser.add_argument("-o", dest="output", type=Path, required=True, help="folder for the volumes")
    parser.set_defaults(run=_stack)


def _stack(args: argparse.Namespace) -> None:
    from dataset_conversion.paper_slices import stack
    from nnunet_sfma.nnunet_folders import dataset_name, nnunet_folder

    volumes = stack(args.predictions, nnunet_folder("nnUNet_raw") / dataset_name(args.dataset), args.output)
    print(f"Wrote {len(volumes)} volumes to {args.output}")


def _add_crossval(commands) -> None:
    parser = commands.add_parser("crossval", help="train, validate and compare all folds, here or on a SLURM cluster")
    parser.add_argument("-d", dest="dataset", required=True, help="id or name of a preprocessed data set")
    parser.add_argument("-tr", dest="trainers", nargs="+", required=True, metavar="TRAINER", help="one or several")
    parser.add_argument("-p", dest="plans", nargs="+", default=["nnUNetPlans"], help="one, or one per trainer")
    parser.add_argument("-c", dest="configuration", default="2d", help="configuration (2d)")
    parser.add_argument("--folds", type=_numbers, metavar="0-4", help="such as 0-4 or 0,2 (all of the split)")
    parser.add_argument("--seeds", type=_numbers, metavar="1-3", help="once per seed, with plans of that seed each")
    parser.add_argument("--npz", action="store_true", help="keep the validation's probabilities, as for ensembles")
    parser.add_argument("-device", choices=["cuda", "cpu", "mps"], help="cuda if there is one; a fold per visible GPU")
    _add_processes(parser)
    parser.add_argument("--dry-run", action="store_true", help="only print the commands")
    _add_executor(parser)
    parser.set_defaults(run=_crossval)


def _add_executor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--executor", choices=["local", "slurm"], default="local", help="this machine, or SLURM")
    slurm = parser.add_argument_group("with --executor slurm")
    slurm.add_argument("--gpus", type=_gpus, default="1", help="per task, such as 1, a100:1 or 0 (1)")
    slurm.add_argument("--cpus", type=_counted, help="per task")
    slurm.add_argument("--mem", type=_gigabytes, metavar="GB", help="per task")
    slurm.add_argument("--time", default="1-0", help="limit of one run, as sbatch takes it; tasks are requeued (1-0)")
    slurm.add_argument("--partition", help="of the cluster")
    slurm.add_argument("--account", help="to be charged")
    slurm.add_argument(
        "--slurm", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="any other option of sbatch"
    )


def _gpus(text: str) -> str:
    if not re.fullmatch(r"(\w[\w.-]*:)?\d{1,4}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"'{shortened(text)}' is no number of GPUs such as 1, a100:1 or 0")
    return text


def _gigabytes(text: str) -> float:
    if not re.fullmatch(r"\d{1,6}(\.\d*)?", text, re.ASCII) or not float(text):
        raise argparse.ArgumentTypeError(f"'{shortened(text)}' is no number of gigabytes above 0")
    return float(text)


def _numbers(text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < first + MOST_NUMBERS:
            raise argparse.ArgumentTypeError(f"'{shortened(text)}' is no list such as 0-4 or 0,2")
        numbers += range(first, last + 1)
    return list(dict.fromkeys(numbers))


def _crossval(args: argparse.Namespace) -> None:
    from nnunet_sfma.crossval.cross_validate import CrossValidation, cross_validate, dry_run
    from nnunet_sfma.crossval.models import find_models
    from nnunet_sfma.crossval.seeds import seeded

    models = find_models(args.dataset, args.trainers, args.plans, args.configuration)
    if args.seeds:
        models = seeded(models, args.seeds, write=not args.dry_run)
    devices = _devices(args)
    validation = CrossValidation.of(models, args.folds, devices, args.npz, args.processes)
    if args.dry_run:
        print("\n".join(dry_run(validation, devices)))
    elif args.executor == "slurm":
        from nnunet_sfma.crossval.slurm import submit

        print("\n".join(submit(validation, _request(args), args.typed)))
    else:
        cross_validate(validation, devices, args.typed)


def _devices(args: argparse.Namespace) -> list:
    from nnunet_sfma.crossval.devices import Device, find_devices

    if args.executor == "slurm":
        return [Device(args.device or ("cpu" if args.gpus == "0" else "cuda"))]
    return find_devices(args.device)


def _request(args: argparse.Namespace):
    from nnunet_sfma.crossval.slurm import Request, read_minutes

    wrong = [setting for setting in args.slurm if not re.fullmatch(r"-{0,2}[A-Za-z][\w-]*=[^\x00-\x1f]+", setting)]
    if wrong:
        raise UserError(f"--slurm {wrong[0]!r}: give KEY=VALUE, such as qos=long.")
    others = {key.lstrip("-"): value for key, value in (setting.split("=", 1) for setting in args.slurm)}
    gpus = None if args.gpus == "0" else args.gpus
    return Request(gpus, args.cpus, args.mem, read_minutes(args.time), args.partition, args.account, others)


def _add_status(commands) -> None:
    parser = commands.add_parser("status", help="where every fold stands; end what crossval started")
    parser.add_argument("-d", dest="dataset", required=True, help="id or name of a data set")
    parser.add_argument("-tr", dest="trainer", help="only models of this trainer")
    parser.add_argument("-p", dest="plans", help="only models with these plans")
    parser.add_argument("-c", dest="configuration", help="only models of this configuration")
    parser.add_argument("--cancel", action="store_true", help="end what crossval started for them, and nothing else")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_status)


def _status(args: argparse.Namespace) -> None:
    from nnunet_sfma.crossval.status import cancel_all, known_models, status
    from nnunet_sfma.crossval.table import print_rows, to_json

    models = known_models(args.dataset, args.trainer, args.plans, args.configuration)
    if args.cancel:
        print("\n".join(cancel_all(models)), file=sys.stderr)
    rows, notes = status(models)
    for note in notes:
        print(f"Note: {note}", file=sys.stderr)
    if args.json:
        print(to_json(rows))
    else:
        print_rows(rows)


def _add_predict(commands) -> None:
    parser = commands.add_parser("predict", help="predict a folder of images on all GPUs or on a SLURM cluster; resume")
    parser.add_argument("-i", dest="images", type=Path, required=True, help="folder of images: CASE_0000.ext ...")
    parser.add_argument("-o", dest="output", type=Path, required=True, help="folder for the predictions")
    _add_model(parser)
    parser.add_argument("-f", dest="folds", nargs="+", metavar="FOLD", help="averaged; numbers, or all (every fold)")
    parser.add_argument("-device", choices=["cuda", "cpu", "mps"], help="cuda if there is one; a part per visible GPU")
    parser.add_argument("--parts", type=int, metavar="N", help="one per device at a time (one per device; SLURM: 1)")
    _add_processes(parser)
    parser.add_argument("--overwrite", action="store_true", help="remove the predictions that are in the folder first")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands")
    _add_executor(parser)
    parser.set_defaults(run=_predict)


def _predict(args: argparse.Namespace) -> None:
    from nnunet_sfma.crossval.devices import kind_of
    from nnunet_sfma.crossval.models import Model
    from nnunet_sfma.crossval.predict import dry_run, predict
    from nnunet_sfma.crossval.predictions import find_prediction, in_parts

    devices = _devices(args)
    model = Model(args.dataset, args.trainer, args.plans, args.configuration)
    prediction = find_prediction(model, args.folds, args.images, args.output, kind_of(devices), args.processes)
    parts = in_parts(prediction, len(devices) if args.parts is None else args.parts)
    if args.dry_run:
        print("\n".join(dry_run(parts, devices, args.overwrite)))
    elif args.executor == "slurm":
        from nnunet_sfma.crossval.predict_slurm import submit_prediction

        print("\n".join(submit_prediction(parts, _request(args), args.overwrite, args.typed)))
    else:
        predict(parts, devices, args.overwrite, args.typed)


def _add_evaluate(commands) -> None:
    parser = commands.add_parser("evaluate", help="all metrics of a cross-validation, or of a folder of predictions")
    _add_model(parser, required=False)
    parser.add_argument("-f", dest="folds", nargs="+", type=int, metavar="FOLD", help="only these folds (all)")
    parser.add_argument("-i", dest="predictions", type=Path, help="instead of a model: a folder of predictions")
    parser.add_argument("-l", dest="labels", type=Path, help="with -i: the folder of their labels")
    parser.add_argument("-djfile", type=Path, help="with -i: dataset.json, if the predictions have none beside them")
    parser.add_argument(
        "-o", dest="output", type=Path, help="folder for the results (evaluation, in the model's or -i)"
    )
    parser.add_argument("--empty", default="nnunet", help="empty masks: nnunet (no value), challenge (1), transunet")
    parser.add_argument("--average", default="volume", help="overlaps of a volume, or the mean over its slices: slice")
    parser.add_argument("--miou", default="foreground", help="mIoU: foreground, or with-background")
    parser.add_argument("--f1", default="mean-of-f1", help="mean-of-f1, or f1-of-means")
    parser.add_argument("--distances", default="mm", help="mm, or voxel as much of the literature has them")
    parser.add_argument("--nsd-tolerance", type=float, default=1.0, help="of NSD, in the unit of the distances (1)")
    _add_processes(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=_evaluate)


def _add_model(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument("-d", dest="dataset", required=required, help="id or name of a data set")
    parser.add_argument("-tr", dest="trainer", required=required, help="trainer of the model")
    parser.add_argument("-p", dest="plans", default="nnUNetPlans", help="plans of the model (nnUNetPlans)")
    parser.add_argument("-c", dest="configuration", default="2d", help="configuration of the model (2d)")


def _evaluate(args: argparse.Namespace) -> None:
    import json

    from nnunet_sfma.evaluation.conventions import Conventions
    from nnunet_sfma.evaluation.evaluate import evaluate
    from nnunet_sfma.evaluation.tables import describe

    conventions = Conventions(args.empty, args.average, args.miou, args.f1, args.distances, args.nsd_tolerance)
    evaluation = evaluate(_source(args), conventions, args.output, args.processes, args.typed)
    if args.json:
        print(json.dumps({key: evaluation[key] for key in ("path", "convention", "missing", "summary")}, indent=2))
    else:
        print(describe(evaluation))


def _source(args: argparse.Namespace):
    from nnunet_sfma.evaluation.cross_validation import from_cross_validation
    from nnunet_sfma.evaluation.sources import from_folder

    if (args.predictions is None) != (args.labels is None):
        raise UserError("A folder of predictions needs its labels: give both -i and -l.")
    if args.predictions is not None:
        if args.dataset or args.trainer or args.folds:
            raise UserError("Give either a model (-d, -tr, -p, -c, -f) or a folder of predictions (-i, -l).")
        return from_folder(args.predictions, args.labels, args.djfile)
    if not (args.dataset and args.trainer):
        raise UserError("Say what to evaluate: a model with -d and -tr, or a folder of predictions with -i and -l.")
    return from_cross_validation(args.dataset, args.trainer, args.plans, args.configuration, args.folds)


def _add_compare(commands) -> None:
    parser = commands.add_parser("compare", help="models beside each other and beside the papers' tables")
    _add_evaluations(parser)
    parser.add_argument("--release", metavar="NAME", help="the published data set, where the evaluations name none")
    parser.add_argument("--metrics", nargs="+", metavar="KEY", help="to show and to test (all; the tables')")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_compare)


def _add_evaluations(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "evaluations", nargs="+", type=Path, metavar="EVALUATION", help="folders that nnunet-sfma evaluate wrote"
    )


def _compare(args: argparse.Namespace) -> None:
    from nnunet_sfma.evaluation.compare import compare, to_json
    from nnunet_sfma.evaluation.comparison_text import format_comparison
    from nnunet_sfma.evaluation.evaluation_file import read_evaluation

    evaluations = [read_evaluation(path) for path in args.evaluations]
    comparison = compare(evaluations, args.release, args.metrics)
    print(to_json(comparison) if args.json else format_comparison(comparison))


def _add_report(commands) -> None:
    parser = commands.add_parser("report", help="one HTML file to look at, and the tables as Markdown, CSV and LaTeX")
    _add_evaluations(parser)
    parser.add_argument("-o", dest="output", type=Path, default=Path("report.html"), help="the file (report.html)")
    parser.add_argument("--title", help="of the report")
    parser.add_argument(
        "--colours",
        choices=["safe", "paper"],
        default="safe",
        help="of overlays: for everybody, or as in SFMANet's paper",
    )
    parser.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> None:
    from nnunet_sfma.evaluation.evaluation_file import read_evaluation
    from nnunet_sfma.reporting.report import write_report

    evaluations = [read_evaluation(path) for path in args.evaluations]
    written = write_report(evaluations, args.output, args.colours, args.title)
    print(f"Wrote {written[0]}, and {len(written) - 1} tables beside it.")


def _add_explain(commands) -> None:
    parser = commands.add_parser("explain", help="draw what the network attends to in a case")
    _add_model(parser)
    parser.add_argument("-f", dest="fold", default="0", help="fold of the model (0)")
    parser.add_argument("--case", required=True, help="identifier of a case in imagesTr or imagesTs")
    parser.add_argument("-s", dest="slice_index", type=int, help="number of the slice (the one with most foreground)")
    parser.add_argument("--class", dest="class_name", help="name of the class (the first)")
    parser.add_argument("-chk", dest="checkpoint", default="checkpoint_final.pth", help="checkpoint_final.pth")
    parser.add_argument("-device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("-o", dest="output", type=Path, help="folder (evaluation/explain in the model's)")
    parser.set_defaults(run=_explain)


def _explain(args: argparse.Namespace) -> None:
    from nnunet_sfma.explaining.explain import explain

    written = explain(
        args.dataset,
        args.trainer,
        args.plans,
        args.configuration,
        args.fold,
        args.case,
        slice_index=args.slice_index,
        class_name=args.class_name,
        output=args.output,
        checkpoint=args.checkpoint,
        device=args.device,
    )
    shown = "" if args.output else "; nnunet-sfma report shows them"
    print(f"Wrote {len(written)} files to {written[0].parent}{shown}.")


def _add_networks(commands) -> None:
    parser = commands.add_parser("networks", help="every preset with its cost beside the published one")
    parser.add_argument(
        "--departures",
        nargs="?",
        const=True,
        metavar="PRESET",
        help="where networks and recipes depart from the papers and what they decide; of one preset, or all",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_networks)


def _networks(args: argparse.Namespace) -> None:
    if args.departures is not None:
        return _departures(args)
    from nnunet_sfma.planning.cost_table import cost_rows, format_table, to_json

    rows = cost_rows()
    print(to_json(rows) if args.json else format_table(rows))


def _departures(args: argparse.Namespace) -> None:
    from nnunet_sfma import departures

    found = departures.shown(None if args.departures is True else args.departures)
    print(departures.to_json(found) if args.json else departures.format_departures(found))


def _add_weights(commands) -> None:
    parser = commands.add_parser("weights", help="ImageNet weights: what is cached, fetching them, checking a file")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--fetch", action="store_true", help="download what is not cached")
    action.add_argument("--check", type=Path, metavar="FILE", help="load a local file into a preset's network")
    parser.add_argument("--preset", help="only the weights of this preset; with --check: its network (danie-l)")
    parser.add_argument("--patch", nargs=2, type=int, metavar=("H", "W"), help="with --check (256 256)")
    parser.add_argument("--channels", type=int, help="with --check: of the image (3)")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_weights)


def _weights(args: argparse.Namespace) -> None:
    from nnunet_sfma import weights

    if args.check:
        channels = 3 if args.channels is None else args.channels
        fit = weights.check_file(args.check, args.preset or "danie-l", args.patch or (256, 256), channels)
        print(weights.to_json(fit) if args.json else weights.format_fit(fit))
        return
    if args.patch or args.channels is not None:
        raise UserError("--patch and --channels say for what --check FILE checks.")
    wanted = weights.fetch_weights(args.preset) if args.fetch else weights.published_weights(args.preset)
    print(weights.to_json(wanted) if args.json else weights.format_weights(wanted))


def _add_doctor(commands) -> None:
    parser = commands.add_parser("doctor", help="check versions, nnU-Net's folders, trainers and the GPU")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> None:
    from nnunet_sfma.doctor import examine, format_findings, to_json

    findings = examine()
    print(to_json(findings) if args.json else format_findings(findings))
    if any(not finding.ok for finding in findings):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
