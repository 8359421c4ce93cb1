"""The papers' printed numbers, as data."""

import json
from functools import cache
from importlib.resources import files


@cache
def load_published() -> dict:
    """Everything in ``published.json``: paper, then table, then row, each with its source."""
    return json.loads(files("nnunet_sfma.evaluation").joinpath("published.json").read_text())
