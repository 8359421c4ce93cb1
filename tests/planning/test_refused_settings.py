"""Names and values that no training can use are refused by ``nnunet-sfma plan`` before anything is written."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError


@pytest.fixture(scope="module")
def shared(prepared, tmp_path_factory):
    """A copy of the prepared workspace for all tests of this module."""
    copy = type(prepared)(tmp_path_factory.mktemp("refused") / "workspace")
    shutil.copytree(prepared.root, copy.root)
    return copy


@pytest.fixture
def untouched(shared, monkeypatch) -> Iterator[Path]:
    """The data set's folder in nnUNet_preprocessed, in which nothing comes to be or goes."""
    shared.point_to_it(monkeypatch)
    folder = shared.preprocessed / shared.plain
    before = sorted(folder.iterdir())
    yield folder
    assert sorted(folder.iterdir()) == before


def set_to(value: str, preset: str = "sfmanet") -> list[str]:
    return ["-d", "1", "--preset", preset, "--set", value]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        *(
            (set_to(f"training.optimizer_kwargs={value}"), f"optimizer_kwargs.*{said}")
            for value, said in (
                ('{"betas":[2,3]}', "does not work: Invalid beta parameter at index 0"),
                ('{"betas":[0.9]}', "betas is like"),
                ('{"betas":[0.9,NaN]}', "betas is like"),
                ('{"eps":-1}', "eps is like"),
                ('{"eps":1e40}', "eps lies between 0 and 1"),
                ('{"amsgrad":{"a":[{"b":1}]}}', "amsgrad is like False"),
                ('{"foreach":1}', "foreach is like None"),
                ('{"maximize":true}', "which Adam does not take"),
                ('{"foreach":true,"fused":true}', "does not work: .*fused"),
            )
        ),
        *(
            (set_to(f"training.lr_schedule_kwargs={value}"), f"lr_schedule_kwargs.*{said}")
            for value, said in (
                ('{"factor":2}', "factor lies between 0 and 1, got 2"),
                ('{"factor":0}', "factor lies between 0 and 1, got 0"),
                ('{"factor":-0.5}', "factor is like 0.1 and not negative"),
                ('{"factor":NaN}', "factor is like"),
                ('{"patience":1.5}', "patience is a whole number of epochs, got 1.5"),
                ('{"threshold":"little"}', "threshold is like"),
                ('{"threshold_mode":"odd"}', "does not work: threshold mode"),
                ('{"min_lr":[[1]]}', "min_lr is like 0"),
            )
        ),
        *(
            (set_to(value), said)
            for value, said in (
                ("training.optimizer_kwargs=[]", "training.optimizer_kwargs must be an object"),
                ("training.num_epochs=1" + "0" * 40, "training.num_epochs is out of range"),
                ("training.num_epochs=1" + "0" * 5000, "too long a number"),
                ("training.slices=" + "[" * 100000, "nested too deeply"),
                ("training.initial_lr=NaN", "training.initial_lr is out of range"),
                ("training.initial_lr=1e40", "training.initial_lr is out of range"),
                ("training.gradient_clip=Infinity", "training.gradient_clip is out of range"),
                ("training.seed=-1", "training.seed is out of range"),
                ("batch_size=1" + "0" * 40, "batch_size must be a whole number from 1 on, 65536 at most"),
                ("batch_size=1e40", "batch_size must be a whole number"),
                ("batch_size=NaN", "batch_size must be a whole number"),
                ("patch_size=[64,1000000]", "at most 8192"),
                ("patch_size=[true,64]", "two whole numbers"),
                ("spacing=[0,1]", "spacing=.* leaves no usable slices of the 40 x 32 pixels"),
                ("spacing=[-1,1]", "leaves no usable slices"),
                ("spacing=[NaN,1]", "leaves no usable slices"),
                ("spacing=[1e-9,1]", "leaves no usable slices"),
                ("spacing=[500,1]", "leaves no usable slices"),
                ('normalization_schemes=["Nonsense"]', "nnU-Net has no normalisation 'Nonsense'"),
                ('normalization_schemes=[["ZScoreNormalization"]]', "normalization_schemes must look like"),
                ("architecture.sgu_threshold=NaN", "threshold lies between 0 and 1, got nan"),
                ("architecture.sgu_threshold=1e40", "sgu_threshold cannot be 1e.40"),
                ('architecture.features_per_stage={"a":[1]}', "does not fit SFMANet"),
            )
        ),
        (set_to('architecture.norm_op_kwargs={"eps":NaN}', "peer-nnunet"), "give numbers that are finite"),
        *(
            (["-d", "1", "--preset", "sfmanet", f"--name={name}"], "cannot name these plans")
            for name in (
                *("splits_final", "dataset", "Dataset", "dataset_fingerprint", "split_record", "nnUNetPlans", ".."),
                *("a\nb", "a/b", "a\\b", "n" * 101, "n" * 300, "", " ", "a b", "-x", ".hidden", "a\0b", "\udcff"),
            )
        ),
        *(
            (["-d", dataset, "--preset", "sfmanet"], "is no data set: give its id")
            for dataset in ("\u00b2", "9" * 5000, "Dataset", "Dataset001_x/../Dataset001_Plain", "Dataset001_a\nb")
        ),
        (["-d", "1", "--preset", "sfmanet", "-p", "../Dataset002_Regions/nnUNetPlans"], "as it stands in their folder"),
    ],
)
def test_what_no_training_can_use_ends_in_one_sentence(untouched, arguments, sentence):
    with pytest.raises(UserError, match=sentence.replace("(", r"\(")) as error:
        main(["plan", *arguments])
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


@pytest.mark.parametrize("content", ["", "null", "[]", '{"configurations": {}}', "[" * 10000], ids=range(5))
@pytest.mark.parametrize("name", ["nnUNetPlans", "dataset"])
def test_damaged_files_of_nnunet_are_named(untouched, name, content):
    path = untouched / f"{name}.json"
    whole = path.read_text()
    path.write_text(content)
    try:
        with pytest.raises(UserError, match=rf"^{path} is damaged \([^\n]*\): [^\n]*\.$"):
            main(["plan", "-d", "1", "--preset", "sfmanet"])
    finally:
        path.write_text(whole)
