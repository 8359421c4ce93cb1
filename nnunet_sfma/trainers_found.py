"""Which trainers nnU-Net finds. :mod:`nnunet_sfma.doctor` runs this text in a new Python, as ``nnUNetv2_train`` is one:

importing anything of this package would point nnU-Net to the trainers and thereby mend what is to be checked. Prints
``nnUNet_extTrainer`` and, for each trainer named on the command line, its module or what is wrong, as JSON.
"""

import contextlib
import io
import json
import os
import pickle
import sys


def look_up(name: str) -> dict[str, str]:
    """Twice found, the same and picklable: what worker processes and custom transforms rely on."""
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    try:
        found = [recursive_find_trainer_class_by_name(name) for _ in range(2)]
        pickle.dumps(found[0])
    except (Exception, SystemExit) as error:  # whatever a foreign folder in the variable raises has to become a line
        return {"problem": f"not found: {(str(error).splitlines() or [type(error).__name__])[0]}"}
    return {"module": found[0].__module__} if found[0] is found[1] else {"problem": "found twice as two classes"}


if __name__ == "__main__":
    sys.path = [entry for entry in sys.path if entry]  # without the present folder, where -c looks first
    variable = os.environ.get("nnUNet_extTrainer", "")
    with contextlib.redirect_stdout(io.StringIO()):
        trainers = {name: look_up(name) for name in sys.argv[1:]}
    print(json.dumps({"variable": variable, "trainers": trainers}))
