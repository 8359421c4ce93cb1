"""The folder of figures that the report reads."""

import json
from pathlib import Path

import pytest

from nnunet_sfma.errors import UserError
from nnunet_sfma.explaining.explain_folder import Entry, replace_case


def pictures(case: str, *contents: bytes) -> dict[Entry, bytes]:
    return {Entry(case, 3, f"title {i}", "caption", "SFMANet"): content for i, content in enumerate(contents)}


def content(folder: Path) -> list[tuple[str, str, bytes]]:
    figures = json.loads((folder / "explain.json").read_text())["figures"]
    assert {path.name for path in folder.iterdir()} == {"explain.json", *(figure["file"] for figure in figures)}
    return [(figure["case"], figure["title"], (folder / figure["file"]).read_bytes()) for figure in figures]


def test_cases_are_added_and_replaced(tmp_path):
    folder = tmp_path / "evaluation" / "explain"
    paths = replace_case(folder, "a", pictures("a", b"0", b"1"))
    assert [path.name for path in paths] == ["0.png", "1.png", "explain.json"]
    (figure, _) = json.loads(paths[-1].read_text())["figures"]
    assert figure == {
        "file": "0.png",
        "case": "a",
        "slice": 3,
        "title": "title 0",
        "caption": "caption",
        "network": "SFMANet",
    }
    replace_case(folder, "b", pictures("b", b"2"))
    replace_case(folder, "a", pictures("a", b"3"))
    assert content(folder) == [("b", "title 0", b"2"), ("a", "title 0", b"3")]


@pytest.mark.parametrize("blocked", ["1.png", "2.png"])
def test_nothing_half_written(tmp_path, blocked):
    replace_case(tmp_path, "a", pictures("a", b"0"))
    before = (tmp_path / "explain.json").read_text()
    (tmp_path / blocked).mkdir()
    with pytest.raises(UserError, match=f"Could not write .*{blocked}"):
        replace_case(tmp_path, "a", pictures("a", b"1", b"2"))
    (tmp_path / blocked).rmdir()
    assert (tmp_path / "explain.json").read_text() == before
    assert content(tmp_path) == [("a", "title 0", b"0")]


def test_an_interruption_leaves_the_old_figures(tmp_path):
    replace_case(tmp_path, "a", pictures("a", b"0"))

    class Interrupting(dict):
        """Ctrl-C while the second picture is about to be written."""

        def values(self):
            yield b"1"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_case(tmp_path, "a", Interrupting(pictures("a", b"1", b"2")))
    assert content(tmp_path) == [("a", "title 0", b"0")]


@pytest.mark.parametrize("text", ['{"figures": [', "[]", '{"figures": [{"file": "0.png"}]}', '{"figures": 1}'])
def test_a_damaged_list_is_not_overwritten(tmp_path, text):
    (tmp_path / "explain.json").write_text(text)
    with pytest.raises(UserError, match="explain.json is damaged"):
        replace_case(tmp_path, "a", pictures("a", b"0"))
    assert [path.name for path in tmp_path.iterdir()] == ["explain.json"]
    assert (tmp_path / "explain.json").read_text() == text
