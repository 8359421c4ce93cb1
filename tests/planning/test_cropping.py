"""``nnunet-sfma plan`` says when a patch shows little of a slice."""

import pytest

from nnunet_sfma.cli import main


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["patch_size=[20,16]"], "A patch of 20 x 16 is a crop: it shows 25% of the median slice (40 x 32)"),
        (["patch_size=[16,512]", "spacing=[0.45,0.9]"], "it shows 20% of the median slice (80 x 32)"),
        (["patch_size=[16,16]", "spacing=[1.8,1.8]"], None),
        (["patch_size=[20,32]"], None),
        (["patch_size=[256,256]"], None),
    ],
)
def test_small_patch_is_said_to_be_a_crop(workspace, capsys, settings, said):
    main(["plan", "-d", "1", "--preset", "sfmanet", "--name", "small", "-np", "1", "--set", *settings])
    printed = capsys.readouterr().out
    assert (said in printed) if said else ("is a crop" not in printed)
