"""networks/ stands alone: it imports nothing of nnU-Net and nothing else of this package."""

import os
import subprocess
import sys

REPORT = "import sys, nnunet_sfma.networks.peers; print('\\n'.join(sys.modules))"


def test_networks_import_neither_nnunet_nor_the_rest_of_the_package():
    # -S: no start-up files, which would import the plugin's own discovery module
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-S", "-c", REPORT], env=environment, capture_output=True, text=True, check=True
    )
    modules = done.stdout.split()
    assert "nnunet_sfma.networks" in modules
    assert not [name for name in modules if name.split(".")[0] in ("nnunetv2", "batchgenerators", "SimpleITK", "monai")]
    ours = [name for name in modules if name.startswith("nnunet_sfma.")]
    assert not [name for name in ours if name.split(".")[1] != "networks"]
