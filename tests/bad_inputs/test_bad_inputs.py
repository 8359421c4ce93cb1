"""Whatever is wrong, a command ends with one sentence and leaves everything as it was."""

import os
import shutil
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nnunet_sfma.cli import main
from tests.bad_inputs.commands import COMMANDS
from tests.bad_inputs.damaged_files import damaged_files, replace
from tests.bad_inputs.wrong_options import commands, wrong_options

OPTIONS, FILES = list(wrong_options()), list(damaged_files())


def test_there_are_two_hundred_and_every_command_is_among_them():
    assert len(OPTIONS) + len(FILES) >= 200
    assert set(commands()) == set(COMMANDS)


@pytest.mark.parametrize(("name", "arguments"), OPTIONS, ids=[name for name, _ in OPTIONS])
def test_wrong_option(name: str, arguments: list[str], kitchen: Path, capfd: pytest.CaptureFixture):
    with unchanged(kitchen):
        refuse(arguments, kitchen, capfd)


@pytest.mark.parametrize(("name", "file", "damage", "command"), FILES, ids=[name for name, *_ in FILES])
def test_damaged_file(
    name: str, file: str, damage: Callable, command: str, kitchen: Path, capfd: pytest.CaptureFixture
):
    path = min(kitchen.glob(file))
    whole, times = path.read_bytes(), path.stat()
    replace(path, damage(whole))
    try:
        with unchanged(kitchen):
            refuse(command.split(), kitchen, capfd)
    finally:
        replace(path, whole)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    "command", dict.fromkeys(command for *_, command in FILES if not command.startswith("weights"))
)
def test_command_succeeds_where_nothing_is_damaged(command: str, kitchen: Path):
    """Without this, a command that always fails would hold what is above; it writes, so it comes last.

    No weights that fit are small enough for ``weights --check``.
    """
    main([word.format(root=kitchen) for word in command.split()])


def refuse(arguments: list[str], root: Path, capfd: pytest.CaptureFixture) -> None:
    """Run a command that has to end with one sentence and an exit code that is not 0."""
    capfd.readouterr()
    arguments = [word.format(root=root) for word in arguments]
    try:
        main(arguments)
        code: object = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        pytest.fail(f"nnunet-sfma {arguments} ended in a stack trace:\n{traceback.format_exc()}")
    printed = capfd.readouterr()
    said = code if isinstance(code, str) else printed.err
    assert code not in (0, None), f"nnunet-sfma {arguments} was accepted:\n{printed.out}"
    assert "Traceback" not in printed.out + printed.err
    last = said.strip().splitlines()[-1] if said.strip() else printed.out.strip().splitlines()[-1]
    if isinstance(code, str):
        assert len(said.splitlines()) == 1 and said.endswith("."), said
    else:
        assert code in (1, 2) and last, printed


@contextmanager
def unchanged(root: Path) -> Iterator[None]:
    """Fail if anything below a folder is other than before, after having put it right for the next."""
    before = _state(root)
    try:
        yield
    finally:
        after = _state(root)
        new = sorted(after.keys() - before.keys())
        for path in new:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    changed = [path for path in before if before[path] != after.get(path)]
    assert (new, changed) == ([], [])


def _state(root: Path) -> dict[Path, tuple[int, int] | None]:
    """Size and time of each file; folders have none, as temporary files come and go in them."""
    found = [Path(folder, name) for folder, folders, files in os.walk(root) for name in [*folders, *files]]
    return {path: None if path.is_dir() else (path.lstat().st_size, path.lstat().st_mtime_ns) for path in found}
