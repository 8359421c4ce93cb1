"""SECURITY.md names every kind of file that is read, and the code reads none of them in a way that runs it."""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
SOURCES = {
    path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8"))
    for package in ("nnunet_sfma", "dataset_conversion")
    for path in sorted((ROOT / package).rglob("*.py"))
}
FILE = re.compile(r"[\w.*-]*\w[*-]*\.(json|jsonl|pkl|pth|pt|bin|npz|cfg|csv|safetensors|log|txt)", re.ASCII)
NOT_OF_USERS = {
    "published.json": "part of the package",
    "departures.json": "part of the package",
    "summary.csv": "only written",
    "cases.csv": "only written",
}
RUNS_WHAT_IT_READS = {
    "eval",
    "exec",
    "os.popen",
    "os.system",
    "pickle.load",
    "pickle.loads",
    "load_pickle",
    "joblib.load",
    "runpy.run_path",
    "torch.hub.load",
}
SAFE = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
DEFAULTS = {"allow_pickle": False}
IMPORT_BY_NAME = {
    "nnunet_sfma/cli.py": "the converter that argparse chose among its own",
    "nnunet_sfma/trainers/listed_networks.py": "one of the listed networks",
}


def file_names() -> Iterator[str]:
    for tree in SOURCES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and FILE.fullmatch(node.value):
                yield node.value.lower()


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    for path, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield str(path), ast.unparse(node.func), node


def test_page_names_every_file_that_the_code_names():
    named = [word.lower() for word in re.findall(r"`([^`\s]+)`", PAGE)]
    found = set(file_names()) - set(NOT_OF_USERS)
    assert {"evaluation.json", "checkpoint_final.pth", "grade.csv", ".slurm.json"} <= found
    assert [name for name in sorted(found) if not any(fnmatch(name, pattern) for pattern in named)] == []


def test_nothing_is_called_that_runs_what_it_reads():
    assert [(path, name) for path, name, _ in calls() if name in RUNS_WHAT_IT_READS] == []


@pytest.mark.parametrize("function", SAFE)
def test_arrays_and_weights_are_read_without_pickles(function: str):
    keyword, safe = SAFE[function]
    given = [
        {entry.arg: ast.literal_eval(entry.value) for entry in node.keywords if entry.arg == keyword}
        for _, name, node in calls()
        if name == function
    ]
    assert given
    assert all({**DEFAULTS, **keywords}.get(keyword) is safe for keywords in given)


def test_no_command_goes_through_a_shell():
    assert [path for path, _, node in calls() for entry in node.keywords if entry.arg == "shell"] == []


def test_modules_are_imported_by_name_only_where_a_list_chooses_them():
    found = {path for path, name, _ in calls() if name.endswith(("import_module", "__import__"))}
    assert found == set(IMPORT_BY_NAME)
