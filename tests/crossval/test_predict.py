"""``nnunet-sfma predict``: nnU-Net's own predictions, made in parts, resumed, post-processed and never mixed up."""

import contextlib
import fcntl
import filecmp
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from nnunetv2.postprocessing.remove_connected_components import remove_all_but_largest_component_from_segmentation
from PIL import Image

from nnunet_sfma.cli import main
from nnunet_sfma.crossval.images import find_cases
from nnunet_sfma.crossval.models import Model
from nnunet_sfma.crossval.predict import prepare
from nnunet_sfma.crossval.prediction_record import remember
from nnunet_sfma.crossval.predictions import Postprocessing, Prediction, find_prediction, in_parts
from nnunet_sfma.prediction.__main__ import main as predict_part
from nnunet_sfma.whole_files import is_whole, remove_cut_off
from tests.conftest import TINY_NETWORKS, Workspace
from tests.forked_workers import fork_workers

TRAINER, PLANS, DATASET = "nnUNetTrainerSFMANet", "tiny", "Dataset001_Plain"
MODEL = ["-d", "1", "-tr", TRAINER, "-p", PLANS]
RECIPE = ["training.num_epochs=1", "training.iterations_per_epoch=20", "training.val_iterations_per_epoch=1"]
CASES = [f"case_{number}" for number in range(12)]
SECONDS_TO_WAIT = 120


@dataclass(frozen=True)
class Continued:
    """A prediction that was killed twice and continued.

    Attributes:
        out: the folder.
        left: what the first driver left, with its age.
        cut_off: one of it.
        told: what the second driver printed.
    """

    out: Path
    left: dict[str, int]
    cut_off: str
    told: str


@pytest.fixture(scope="module")
def trained(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace in which two of five folds are trained for an epoch; twelve test cases; a post-processing of both."""
    from batchgenerators.utilities.file_and_folder_operations import save_pickle
    from nnunetv2.run.run_training import get_trainer_from_args

    from nnunet_sfma.planning.make_plans import make_plans

    copy = Workspace(tmp_path_factory.mktemp("trained"))
    shutil.copytree(prepared.root, copy.root, dirs_exist_ok=True)
    _write_pairs(copy.raw / DATASET / "imagesTr", "_0000.nii.gz", _images(copy))
    with pytest.MonkeyPatch.context() as patch:
        settings = {"nnUNet_n_proc_DA": "0", "nnUNet_npp": "1", "nnUNet_nps": "1"}
        for name, value in {**copy.environment, **settings}.items():
            patch.setenv(name, value)
        make_plans(
            1,
            "sfmanet-narrow",
            [*TINY_NETWORKS["sfmanet-narrow"], *RECIPE, "training.initial_lr=0.01", "batch_size=4"],
            name=PLANS,
        )
        for fold in (0, 1):
            torch.manual_seed(fold)
            np.random.seed(fold)
            get_trainer_from_args("1", "2d", fold, TRAINER, PLANS, False, torch.device("cpu")).run_training()
        _postprocessing(copy).parent.mkdir()
        functions = [remove_all_but_largest_component_from_segmentation], [{"labels_or_regions": 1}]
        save_pickle(functions, str(_postprocessing(copy)))
        yield copy


@pytest.fixture(scope="module")
def expected(trained: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one ``nnUNetv2_predict`` makes of both folds."""
    from nnunetv2.inference.predict_from_raw_data import predict_entry_point

    folder = tmp_path_factory.mktemp("expected")
    which = ["-i", str(_images(trained)), "-o", str(folder), *MODEL, "-c", "2d", "-f", "0", "1", "-device", "cpu"]
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        fork_workers(patch)
        patch.setattr("sys.argv", ["nnUNetv2_predict", *which])
        predict_entry_point()
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="module")
def continued(trained: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Continued:
    """A driver was killed at the first case and a file is cut off; then a second driver's nnU-Net was killed."""
    out = tmp_path_factory.mktemp("continued") / "out"
    predicted = out / "before_postprocessing"
    with subprocess.Popen(
        [_beside_python("nnunet-sfma"), *_arguments(trained, out)], stdout=subprocess.DEVNULL
    ) as driver:
        _wait_until(lambda: any(predicted.glob("*.nii.gz")) or driver.poll() is not None)
        driver.kill()
    _wait_until(lambda: not _predicting(predicted))
    left = _ages(predicted)
    cut_off = predicted / min(left)
    cut_off.write_bytes(cut_off.read_bytes()[:-20])
    before = _ages(predicted).items()

    def kill() -> None:
        _wait_until(lambda: _ages(predicted).items() - before)
        for process in _predicting(predicted):
            os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with contextlib.redirect_stdout(io.StringIO()) as told:
        main([*_arguments(trained, out), "--parts", "2"])
    killer.join()
    return Continued(out, left, cut_off.name, told.getvalue())


@pytest.fixture
def out(continued: Continued, tmp_path: Path) -> Path:
    """A folder in which everything is done."""
    return Path(shutil.copytree(continued.out, tmp_path / "out"))


@pytest.fixture
def arguments(trained: Workspace, tmp_path: Path) -> list[str]:
    """The command for both folds, into a folder ``out``."""
    return _arguments(trained, tmp_path / "out")


def test_killed_prediction_is_continued_and_equals_nnunets(continued: Continued, expected: Path):
    predicted, log = continued.out / "before_postprocessing", continued.out / "logs" / "part_1_of_2.log"
    assert 0 < len(continued.left) < len(CASES)
    assert f"Removed {predicted / continued.cut_off}: it was cut off" in continued.told
    assert log.read_text().count("$ python -m nnunet_sfma.prediction") == 2
    assert "[ended with exit code 137]" in log.read_text()
    assert _different(predicted, expected) == []
    kept = {name for name, age in _ages(predicted).items() & continued.left.items()}
    assert kept == set(continued.left) - {continued.cut_off}
    assert "12 of 12 cases" in continued.told


def test_postprocessing_is_applied(continued: Continued, expected: Path):
    before, after = ([_read(folder / f"{case}.nii.gz") for case in CASES] for folder in (expected, continued.out))
    kept = [remove_all_but_largest_component_from_segmentation(label, 1) for label in before]
    np.testing.assert_array_equal(after, kept)
    assert np.sum(after) < np.sum(before)
    for name in ("dataset.json", "plans.json"):
        assert (continued.out / name).read_text() == (expected / name).read_text()


def test_evaluate_takes_the_predictions(trained: Workspace, out: Path, tmp_path: Path):
    labels = tmp_path / "labelsTs"
    _write_pairs(trained.raw / DATASET / "labelsTr", ".nii.gz", labels)
    main(["evaluate", "-i", str(out), "-l", str(labels), "-np", "1"])
    assert len(json.loads((out / "evaluation" / "evaluation.json").read_text())["cases"]) == len(CASES)


def test_damaged_postprocessed_file_is_made_again(
    continued: Continued, out: Path, arguments: list[str], capsys: pytest.CaptureFixture
):
    cut_off = out / "case_3.nii.gz"
    cut_off.write_bytes(cut_off.read_bytes()[:-20])
    main(arguments)
    assert _different(out, continued.out) == []
    assert _dry_run(arguments, capsys) == ["# part 1 of 1 is finished", "# the post-processing is finished"]


def test_postprocessing_is_applied_again_by_content_and_not_by_the_clock(
    out: Path, arguments: list[str], capsys: pytest.CaptureFixture
):
    predicted = out / "before_postprocessing" / "case_3.nii.gz"
    os.utime(predicted, (4_000_000_000, 4_000_000_000))  # written by a machine whose clock is ahead
    done = ["# part 1 of 1 is finished", "# the post-processing is finished"]
    assert _dry_run(arguments, capsys) == done
    shutil.copy(out / "before_postprocessing" / "case_5.nii.gz", predicted)
    os.utime(predicted, (1_600_000_000, 1_600_000_000))
    finished, command = _dry_run(arguments, capsys)
    assert finished == done[0]
    assert command.startswith(f"nnUNetv2_apply_postprocessing -i {out / 'before_postprocessing'} -o {out} -pp_pkl_file")


def test_dry_run_names_what_is_not_finished(out: Path, arguments: list[str], capsys: pytest.CaptureFixture):
    (out / "before_postprocessing" / "case_5.nii.gz").unlink()  # the eighth in nnU-Net's order
    finished, command, postprocessing = _dry_run([*arguments, "--parts", "2"], capsys)
    assert finished == "# part 1 of 2 is finished"
    assert command.startswith("python -m nnunet_sfma.prediction -i")
    assert "-f 0 1 -num_parts 2 -part_id 1 --continue_prediction" in command
    assert postprocessing.startswith("nnUNetv2_apply_postprocessing")
    (out / "before_postprocessing").rename(out.parent / "away")
    assert len(_dry_run([*arguments, "--parts", "20"], capsys)) == 13


def test_part_that_fails_is_named_with_the_end_of_its_log(
    trained: Workspace, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
):
    damaged = _model(trained) / "fold_2"
    damaged.mkdir()
    torch.save({"network": "none"}, damaged / "checkpoint_final.pth")
    try:
        with pytest.raises(SystemExit, match="Not finished: part 1 of 1. Mend it"):
            main([*arguments, "-f", "2"])
    finally:
        shutil.rmtree(damaged)
    told = capsys.readouterr().out
    assert "These folds (2) have no post-processing; this makes it: nnUNetv2_find_best_configuration 1 -tr" in told
    log = tmp_path / "out" / "logs" / "part_1_of_1.log"
    assert f"part 1 of 1: ended with exit code 1. The end of {log}:\n" in told
    assert "fold_2/checkpoint_final.pth cannot be loaded (it holds no checkpoint)" in told


def test_missing_fold_is_named(trained: Workspace, arguments: list[str], tmp_path: Path):
    folds = arguments.index("-f")
    del arguments[folds : folds + 3]
    with pytest.raises(SystemExit, match=r"of fold 2, 3, 4: train it to its end, or name others .* \(there is 0, 1\)"):
        main(arguments)
    split = trained.preprocessed / DATASET / "splits_final.json"
    split.rename(tmp_path / split.name)
    try:
        main([*arguments, "--dry-run"])  # without a split, the folds that are there are all
    finally:
        (tmp_path / split.name).rename(split)
    with pytest.raises(SystemExit, match="has no checkpoint_final.pth of fold all"):
        main([*arguments, "-f", "all"])
    with pytest.raises(SystemExit, match="There is no model in .*nnUNetTrainerX__tiny__2d"):
        main([*arguments, "-tr", "nnUNetTrainerX"])
    assert not (tmp_path / "out").exists()


def test_images_are_checked(trained: Workspace, arguments: list[str], tmp_path: Path):
    images = Path(shutil.copytree(_images(trained), tmp_path / "images"))
    arguments[arguments.index("-i") + 1] = str(images)
    (images / "case_7_0001.nii.gz").touch()
    with pytest.raises(SystemExit, match=r"case_7 in .* has a channel 0001, the model takes 1 \(MRI0\)"):
        main(arguments)
    (images / "case_7_0000.nii.gz").unlink()
    with pytest.raises(SystemExit, match="case_7 in .* lacks channel 0000"):
        main(arguments)
    (images / "scan.nii.gz").touch()
    with pytest.raises(SystemExit, match=r"not named CASE_0000.nii.gz \(scan.nii.gz\)"):
        main(arguments)
    with pytest.raises(SystemExit, match="There are no images"):
        main([*arguments, "-i", str(tmp_path)])
    with pytest.raises(SystemExit, match="holds the images: choose another folder"):
        main([*arguments, "-i", str(_images(trained)), "-o", str(_images(trained))])


def test_colour_pictures_hold_three_channels_in_a_file(tmp_path: Path):
    for case in ("b", "a", "a_b", "B"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{case}_0000.png")
    plans = {"image_reader_writer": "NaturalImage2DIO"}
    assert find_cases(tmp_path, ".png", ["R", "G", "B"], plans) == ["B", "a", "a_b", "b"]
    with pytest.raises(SystemExit, match="has 3 channels, the model takes 1"):
        find_cases(tmp_path, ".png", ["grey"], plans)


def test_cases_are_in_the_order_of_nnunet(tmp_path: Path):
    from nnunetv2.utilities.utils import create_lists_from_splitted_dataset_folder

    image = sitk.GetImageFromArray(np.zeros((2, 4, 4), np.float32))
    for case in ("case_10", "case_9", "Case_1", "case-1", "é", "case.1", "case_1_0000", "case"):
        for channel in range(2):
            sitk.WriteImage(image, str(tmp_path / f"{case}_{channel:04d}.nii.gz"))
    found = find_cases(tmp_path, ".nii.gz", ["T1", "T2"], {"image_reader_writer": "SimpleITKIO"})
    lists = create_lists_from_splitted_dataset_folder(str(tmp_path), ".nii.gz", num_processes=1)
    assert found == [Path(files[0]).name.removesuffix("_0000.nii.gz") for files in lists]


def test_other_predictions_are_refused_or_replaced(
    expected: Path, out: Path, arguments: list[str], capsys: pytest.CaptureFixture
):
    one_fold = [*arguments, "-f", "0"]
    with pytest.raises(SystemExit, match=r"were made by other folds \(\[0, 1\]\): choose another folder with -o"):
        main(one_fold)
    assert "-part_id 0" in _dry_run([*one_fold, "--overwrite"], capsys)[0]
    assert _different(out / "before_postprocessing", expected) == []
    (out / "nnunet_sfma_prediction.json").unlink()
    with pytest.raises(SystemExit, match="nothing says by which folds they were made"):
        main(arguments)
    (out / "before_postprocessing" / "predict_from_raw_data_args.json").unlink()
    with pytest.raises(SystemExit, match="files that are no predictions"):
        main([*arguments, "--overwrite"])
    assert _different(out / "before_postprocessing", expected) == []


def test_overwrite_removes_all_predictions(trained: Workspace, out: Path):
    one_fold = _find_prediction(trained, out, "0")
    prepare(one_fold, overwrite=True)
    assert list(out.rglob("*.nii.gz")) == []
    prepare(one_fold, overwrite=False)


@pytest.mark.parametrize("end", ["", "[ended with exit code 0]\n"])
def test_what_a_part_left_cut_off_is_predicted_again(trained: Workspace, out: Path, end: str):
    """Whether it was killed, or ended well on a disk that was full."""
    part = in_parts(_find_prediction(trained, out, "0", "1"), 2)[1]
    assert part.next_command() is None
    part.log.write_text(f"$ python -m nnunet_sfma.prediction\n{end}")
    cut_off = part.files[2]
    cut_off.write_bytes(cut_off.read_bytes()[:-20])
    assert part.next_command() == part.command()
    assert [path for path in part.files if not path.exists()] == [cut_off]


def test_what_the_postprocessing_left_empty_on_a_full_disk_is_made_again(trained: Workspace, out: Path):
    job = Postprocessing(_find_prediction(trained, out, "0", "1"))
    assert job.next_command() is None
    job.log.write_text("$ nnUNetv2_apply_postprocessing\n[ended with exit code 0]\n")
    job.files[3].write_bytes(b"")
    assert job.next_command() == job.command()
    assert [path for path in job.files if not path.exists()] == [job.files[3]]


@pytest.mark.slow
def test_disk_that_was_full_for_a_while(trained: Workspace, expected: Path, arguments: list[str], small_disk: Path):
    """ITK writes what it has room for, and nnU-Net ends well."""
    prediction = [*arguments, "-o", str(small_disk)]
    path = _postprocessing(trained)
    away = path.rename(path.with_suffix(".away"))
    try:
        # room for what nnU-Net and we write down, and for few of the masks
        _fill(small_disk, but=_blocks(_model(trained) / "plans.json") + 8)
        with pytest.raises(SystemExit, match="Not finished: part 1 of 1"):
            main(prediction)
        left = list(small_disk.glob("*.nii.gz"))
        assert 0 < len(left) < len(CASES) and all(path.stat().st_size for path in left)
        (small_disk / "filler").unlink()
        main(prediction)
    finally:
        away.rename(path)
    assert _different(small_disk, expected) == []


def test_disk_that_is_full_ends_a_part_with_the_names_of_what_it_could_not_write(trained: Workspace, small_disk: Path):
    """Of the masks that ITK left empty, without an error."""
    _fill(small_disk, but=_blocks(_model(trained) / "plans.json") + 8)
    which = ["-i", str(_images(trained)), "-o", str(small_disk), *MODEL, "-c", "2d", "-f", "0", "-device", "cpu"]
    with pytest.raises(SystemExit, match=rf"^Could not write case_.* to {small_disk}: make room"):
        predict_part([*which, "-npp", "0", "-nps", "0", "--disable_progress_bar"])
    left = list(small_disk.glob("*.nii.gz"))
    assert len(left) < len(CASES) and all(path.stat().st_size for path in left)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, with the logs elsewhere."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system can only be mounted by root")
    (tmp_path / "logs").mkdir()
    (folder / "logs").symlink_to(tmp_path / "logs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


BLOCK = 4096


def _blocks(path: Path) -> int:
    return path.stat().st_size // BLOCK + 1


def _fill(disk: Path, but: int) -> None:
    """Leave so many blocks of a disk free."""
    state = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(state.f_bavail * state.f_frsize - but * BLOCK))


def test_model_that_was_trained_again_or_lost_its_postprocessing_is_another(
    trained: Workspace, out: Path, arguments: list[str]
):
    path = _postprocessing(trained)
    away = path.rename(path.with_suffix(".away"))
    try:
        with pytest.raises(SystemExit, match="were made with another post-processing"):
            main(arguments)
    finally:
        away.rename(path)
    record = out / "nnunet_sfma_prediction.json"
    made_by = json.loads(record.read_text())
    made_by["checkpoints"]["1"] = "of another training"
    record.write_text(json.dumps(made_by))
    with pytest.raises(SystemExit, match="were made before the model was trained again"):
        main(arguments)


def test_changed_image_is_predicted_again(out: Path, trained: Workspace, arguments: list[str], capsys):
    image = _images(trained) / "case_1_0000.nii.gz"
    before = image.stat()
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    try:
        prepare(_find_prediction(trained, out, "0", "1"), overwrite=False)
        assert "The image of case_1 was changed: it is predicted again." in capsys.readouterr().out
        assert [path.name for path in _missing(out)] == ["case_1.nii.gz"]
    finally:
        os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_overwrite_removes_its_own_files_only(out: Path, trained: Workspace, arguments: list[str]):
    mine = out / "case_1_corrected.nii.gz"
    mine.write_bytes(b"by hand")
    prediction = _find_prediction(trained, out, "0", "1")
    remember(prediction, is_finished=True)
    prepare(prediction, overwrite=True)
    assert [path.name for path in out.glob("*.nii.gz")] == [mine.name]


def test_overwrite_repeated_after_a_kill_continues(out: Path, trained: Workspace, arguments: list[str]):
    prediction = _find_prediction(trained, out, "0", "1")
    remember(prediction)
    prepare(prediction, overwrite=True)
    assert _missing(out) == []


def test_folder_of_something_else_is_refused(trained: Workspace, arguments: list[str]):
    with pytest.raises(SystemExit, match="holds files that are no predictions: choose another folder with -o"):
        main([*arguments, "-o", str(trained.raw / trained.plain), "--overwrite"])
    assert (trained.raw / trained.plain / "dataset.json").is_file()


def _missing(out: Path) -> list[Path]:
    return [path for path in (out / f"{case}.nii.gz" for case in CASES) if not path.is_file()]


def test_second_driver_is_refused(out: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nnunet_sfma.crossval.lock.SECONDS_FOR_THE_LAST_TO_LEAVE", 0)
    with (out / "nnunet_sfma_prediction.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match="are being worked on by"):
            main(arguments)


@pytest.mark.parametrize(
    ("reader", "ending"),
    [
        ("SimpleITKIO", ".nii.gz"),
        ("SimpleITKIO", ".nii"),
        ("SimpleITKIO", ".mha"),
        ("SimpleITKIO", ".nrrd"),
        ("SimpleITKIO", ".gipl"),
        ("NaturalImage2DIO", ".png"),
        ("Tiff3DIO", ".tif"),
    ],
)
def test_cut_off_files_are_recognised(reader: str, ending: str, tmp_path: Path):
    from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name

    label = np.random.default_rng(0).integers(0, 2, (1 if ending == ".png" else 4, 64, 64), np.uint8)
    whole, *others = (tmp_path / f"{name}{ending}" for name in ("whole", "half", "empty"))
    if ending in (".png", ".tif"):
        iio.imwrite(whole, label[0] if ending == ".png" else label)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(label), str(whole))
    others[0].write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    others[1].touch()
    reader = recursive_find_reader_writer_by_name(reader)
    assert remove_cut_off([whole, *others], reader, 1) == others
    assert [path for path in (whole, *others) if path.exists()] == [whole]


def _arguments(trained: Workspace, out: Path) -> list[str]:
    places = ["-i", str(_images(trained)), "-o", str(out)]
    return ["predict", *places, *MODEL, "-f", "0", "1", "-device", "cpu", "-np", "1"]


def _find_prediction(trained: Workspace, out: Path, *folds: str) -> Prediction:
    return find_prediction(Model("1", TRAINER, PLANS, "2d"), folds, _images(trained), out, "cpu", 1)


def _images(trained: Workspace) -> Path:
    return trained.raw / DATASET / "imagesTs"


def _ages(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.nii.gz")}


def _model(trained: Workspace) -> Path:
    return trained.results / DATASET / f"{TRAINER}__{PLANS}__2d"


def _postprocessing(trained: Workspace) -> Path:
    return _model(trained) / "crossval_results_folds_0_1" / "postprocessing.pkl"


def _beside_python(program: str) -> str:
    return str(Path(sys.executable).parent / program)


def _dry_run(arguments: list[str], capsys: pytest.CaptureFixture) -> list[str]:
    capsys.readouterr()
    main([*arguments, "--dry-run"])
    return capsys.readouterr().out.splitlines()


def _different(folder: Path, expected: Path, cases: Sequence[str] = CASES) -> list[str]:
    """The cases whose files are not the same, byte for byte."""
    _, different, missing = filecmp.cmpfiles(folder, expected, [f"{case}.nii.gz" for case in cases], shallow=False)
    return [*different, *missing]


def _write_pairs(folder: Path, ending: str, target: Path) -> None:
    """Write the test cases: two training cases side by side, so that there are two lesions."""
    target.mkdir()
    for number, case in enumerate(CASES):
        pair = [folder / f"case_{index % 6}{ending}" for index in (number, number + 1)]
        image = sitk.GetImageFromArray(np.concatenate([_read(path) for path in pair], axis=1))
        image.SetSpacing(sitk.ReadImage(str(pair[0])).GetSpacing())
        sitk.WriteImage(image, str(target / f"{case}{ending}"))


def _read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def _wait_until(is_so: Callable[[], bool]) -> None:
    patience = time.monotonic() + SECONDS_TO_WAIT
    while not is_so():
        assert time.monotonic() < patience
        time.sleep(0.01)


def _predicting(folder: Path) -> list[int]:
    """The ids of the processes that predict into a folder, without their supervisors."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            if str(folder) in words and not any("supervise" in word for word in words):
                found.append(int(path.parent.name))
    return found


def test_uncompressed_file_that_is_called_compressed_is_whole_or_cut_off(tmp_path: Path):
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    image = sitk.GetImageFromArray(np.ones((4, 8, 8), np.uint8))
    sitk.WriteImage(image, str(tmp_path / "a.nii"))
    path = (tmp_path / "a.nii").rename(tmp_path / "a.nii.gz")
    assert is_whole(path, SimpleITKIO)
    path.write_bytes(path.read_bytes()[:-100])
    assert not is_whole(path, SimpleITKIO)
    assert remove_cut_off([path], SimpleITKIO, 1) == [path] and not path.exists()


@pytest.mark.parametrize("name", [b"\xff\xfe_0000.nii.gz", b"two\nlines_0000.nii.gz"])
def test_names_that_are_no_text_are_refused_before_itk_ends_the_program(name: bytes, tmp_path: Path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    with pytest.raises(
        SystemExit, match=r"^.*holds names that no table can show \('.*_0000\.nii\.gz'\): rename"
    ) as end:
        find_cases(tmp_path, ".nii.gz", ["T1"], {"image_reader_writer": "SimpleITKIO"})
    assert "\n" not in str(end.value)
