"""How many threads PyTorch may use on a CPU."""

import os

VARIABLE = "OMP_NUM_THREADS"


def wanted_threads() -> int | None:
    """What the user set in ``OMP_NUM_THREADS``, or None.

    nnU-Net gives PyTorch every core of the machine, whatever the variable says: two trainings beside each other, or one
    in a share of a cluster's node, then wait for each other's threads.
    """
    first = os.environ.get(VARIABLE, "").partition(",")[0].strip()
    return int(first) if first.isdigit() and int(first) > 0 else None
