"""Files of users' folders: read with one sentence for any damage, written whole and beside each other."""

import os

import pytest

from nnunet_sfma.errors import UserError
from nnunet_sfma.files import replace_text
from nnunet_sfma.json_files import BARE_NAME, read_json

SCHEMA = {
    "type": "object",
    "required": ["folds"],
    "properties": {"folds": {"type": "array", "items": {"type": "integer"}}, "file": BARE_NAME},
}


def sentence_for(path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_json(path, SCHEMA, advice="make it again")
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"", "line 1, column 1"),
        (b'{"folds": [0', "line 1, column 13"),
        (b"null", "top level"),
        (b"[]", "top level"),
        (b"{}", "'folds' is a required property"),
        (b'{"folds": [0, "1"]}', "folds[1]"),
        (b'{"folds": [], "file": "../x"}', "file"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"folds": [' + b"1" * 5000 + b"]}", "4300"),
    ],
)
def test_a_damaged_file_ends_in_one_sentence_with_file_place_and_advice(tmp_path, content, place):
    path = tmp_path / "record.json"
    sentence = sentence_for(path, content)
    assert str(path) in sentence and place in sentence and sentence.endswith(": make it again.")
    assert "\n" not in sentence and len(sentence) < 400


@pytest.mark.parametrize("name", ["", ".", "..", "/etc/passwd", "a/b", "..\\b", "a\nb", "a\x00", "x" * 300, 3, None])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    import json

    assert "file" in sentence_for(tmp_path / "r.json", json.dumps({"folds": [], "file": name}).encode())


def test_what_is_not_a_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path, tmp_path / "pipe.json"):
        with pytest.raises(UserError, match="not a regular file"):
            read_json(path, SCHEMA)
    with pytest.raises(UserError, match="There is no"):
        read_json(tmp_path / "none.json")


def test_a_link_that_waits_under_a_temporary_name_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".a.json.partial").symlink_to(victim)
    replace_text(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "new" and victim.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"victim", "a.json", ".a.json.partial"}


def test_a_file_that_cannot_be_renamed_leaves_nothing_behind(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(UserError, match=r"Could not write .*a\.json"):
        replace_text(tmp_path / "a.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
