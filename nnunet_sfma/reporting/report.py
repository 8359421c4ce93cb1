"""``nnunet-sfma report``: one HTML file that needs nothing else, and its tables as files."""

import base64
import hashlib
import os
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from nnunet_sfma import __version__
from nnunet_sfma.errors import UserError
from nnunet_sfma.files import replace_texts
from nnunet_sfma.reporting.cases import case_table
from nnunet_sfma.reporting.comparison import ComparisonTables, compare_models
from nnunet_sfma.reporting.explained import read_explained
from nnunet_sfma.reporting.methods import convention_table, cost_table, fold_table, metric_table, origin_table
from nnunet_sfma.reporting.models import Model, all_classes, name_models
from nnunet_sfma.reporting.overlays import SCHEMES, draw_overlays, legend
from nnunet_sfma.reporting.plots import Plot, box_plot, detection_plot, learning_curves, size_plot
from nnunet_sfma.reporting.summary import detection_table, figures_table, headlines, summary_table
from nnunet_sfma.reporting.tables import FORMATS, Table
from nnunet_sfma.sentences import first_few

BOXES = ("dice", "hd95")


def write_report(
    evaluations: Sequence[dict], target: Path, colours: str = "safe", title: str | None = None
) -> list[Path]:
    """Write the report and, in ``<stem>_tables`` beside it, every table as Markdown, CSV and LaTeX.

    Args:
        evaluations: one or several, as :func:`nnunet_sfma.evaluation.evaluation_file.read_evaluation` returns them.
        target: the .html to write; its folder exists.
        colours: "safe" for everybody's eyes, "paper" for the colours of SFMANet's figures.
        title: of the page; made from the data set if None.

    Returns:
        what was written, the page first.

    Raises:
        UserError: if there is nothing to report, or it cannot be written; an older report stays as it was.
    """
    _check(evaluations, target, colours)
    models = name_models(evaluations)
    tables = _tables(models)
    comparison = compare_models(models)
    folder = target.with_name(f"{target.stem}_tables")
    page = _render(models, tables, comparison, title or _title(models), colours, folder.name)
    texts = {target: page}
    for table in (*filter(None, tables.values()), *comparison.tables, *comparison.more):
        texts |= {folder / f"{table.name}{ending}": to_text(table) for ending, to_text in FORMATS.items()}
    _write(texts, folder)
    return list(texts)


def _check(evaluations: Sequence[dict], target: Path, colours: str) -> None:
    if not evaluations:
        raise UserError("There is nothing to report: name at least one evaluation.")
    if colours not in SCHEMES:
        raise UserError(f"There are no colours '{colours}': choose {' or '.join(SCHEMES)}.")
    if target.suffix != ".html":
        raise UserError(f"A report is an .html file, got {target}.")
    if not os.path.isdir(target.parent):  # unlike Path.is_dir() it answers for a folder that may not be entered
        raise UserError(f"{target.parent} does not exist: create it or choose another place.")


def _tables(models: Sequence[Model]) -> dict[str, Table | None]:
    averaged = [model for model in models if model.averaged]
    return {
        "summary": summary_table(averaged) if averaged else None,
        "figures": figures_table(averaged) if averaged else None,
        "detection": detection_table(averaged),
        "cost": cost_table(models),
        "cases": case_table(models),
        "folds": fold_table(models),
        "conventions": convention_table(models),
        "metrics": metric_table(models),
        "origin": origin_table(models),
    }


def _render(
    models: Sequence[Model],
    tables: dict[str, Table | None],
    comparison: ComparisonTables,
    title: str,
    colours: str,
    tables_folder: str,
) -> str:
    script = _asset("report.js")
    averaged = [model for model in models if model.averaged]
    overlays = [(model, drawn) for model in models if (drawn := draw_overlays(model, colours))]
    curves = [(model, plots) for model in models if (plots := learning_curves(model))]
    classes = all_classes(averaged)
    content = {
        "title": title,
        "lead": _lead(models),
        "models": models,
        "averaged": averaged,
        "missing": [(model.label, sentences) for model in models if (sentences := model.evaluation["missing"])],
        "headlines": [(model, headlines(model)) for model in averaged],
        "summary_notes": _summary_notes(averaged),
        "tables": tables,
        "comparison": comparison,
        "boxes": _drawn(box_plot(averaged, key) for key in BOXES),
        "sizes": _drawn(size_plot(models, name) for name in all_classes(models)),
        "detections": _drawn(detection_plot(averaged, name) for name in classes),
        "overlays": overlays,
        "overlay_legend": legend(models, colours),
        "explained": read_explained(models),
        "curves": curves,
        "fold_numbers": sorted(
            {fold["fold"] for model, _ in curves for fold in model.evaluation["folds"] if fold["curves"]}
        ),
        "case_count": len({case["case"] for model in models for case in model.evaluation["cases"]}),
        "commands": _commands,
        "tables_folder": tables_folder,
        "version": __version__,
        "style": Markup(_asset("report.css")),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("report.html.j2")).render(content, sections=_sections(content))


def _sections(content: dict) -> list[tuple[str, str]]:
    """Anchor and heading of the sections that have content, for the table of contents."""
    comparison, tables = content["comparison"], content["tables"]
    sections = (
        ("summary", "Summary", True),
        ("comparison", "Comparison", comparison.refusal or comparison.tables),
        ("spread", "Spread over cases", content["boxes"]),
        ("size", "Size and detection", content["sizes"] or content["detections"]),
        ("overlays", "Best, median and worst case", content["overlays"]),
        ("explained", "What the network looks at", content["explained"]),
        ("curves", "Learning curves", content["curves"]),
        ("cost", "Cost", tables["cost"]),
        ("cases", "All cases", True),
        ("methods", "How it was made", True),
    )
    return [(anchor, heading) for anchor, heading, there in sections if there]


def _drawn(plots: Iterable[Plot | None]) -> list[Plot]:
    return [plot for plot in plots if plot is not None]


def _title(models: Sequence[Model]) -> str:
    return " and ".join(dict.fromkeys(model.evaluation["dataset"]["name"] for model in models))


def _lead(models: Sequence[Model]) -> str:
    dates = sorted(model.evaluation["written_at"][:10] for model in models)
    cases = sorted({len(model.evaluation["cases"]) for model in models})
    classes = all_classes(models)
    count = f"{len(models)} models" if len(models) > 1 else "One model"
    return (
        f"{count}, {' or '.join(map(str, cases))} cases, {len(classes)} class{'es' if len(classes) > 1 else ''} "
        f"({first_few(classes, 13)}), evaluated {' to '.join(dict.fromkeys((dates[0], dates[-1])))}."
    )


def _summary_notes(models: Sequence[Model]) -> list[str]:
    return [
        f"{model.label}: only folds {', '.join(str(fold['fold']) for fold in model.evaluation['folds'])} are in it."
        for model in models
        if model.evaluation["subset"]
    ]


def _commands(model: Model) -> list[str]:
    """Each once, in order; those of trained folds too, should the list lack them."""
    trained = [fold for fold in model.evaluation["folds"] if fold["state"] != "not trained"]
    folds = [fold["command"] for fold in trained if fold.get("command")]
    listed = model.evaluation["commands"]
    return list(dict.fromkeys([*listed, *(command for command in folds if command not in listed)]))


def _asset(name: str) -> str:
    return files("nnunet_sfma.reporting").joinpath(name).read_text(encoding="utf-8")


def _write(texts: dict[Path, str], folder: Path) -> None:
    """Write all or nothing; tables of an older report that this one does not have are removed."""
    made = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
        replace_texts(texts)
    except OSError as error:
        raise UserError(f"Could not write {folder} ({error.strerror}): make room or choose another place.") from error
    finally:
        if made and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    for name in {path.stem for path in folder.iterdir()}:
        files_of_table = [folder / f"{name}{ending}" for ending in FORMATS]
        if all(path.is_file() and path not in texts for path in files_of_table):
            for path in files_of_table:
                path.unlink()
