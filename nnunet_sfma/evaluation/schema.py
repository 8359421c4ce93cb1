"""What comparisons, tables and reports rely on in ``evaluation.json``, as JSON Schema.

An evaluation is a file that people mail: nothing in it is taken for granted.
"""

from nnunet_sfma.json_files import ONE_LINE, STRINGS

FORMAT = 1
TEXTS = {"type": "array", "items": ONE_LINE, "maxItems": 10_000}
MAYBE_TEXT = {**ONE_LINE, "type": ["string", "null"]}
MOST = 1e15
NUMBER = {"type": "number", "minimum": -MOST, "maximum": MOST}
MAYBE_NUMBER = {**NUMBER, "type": ["number", "null"]}
COUNT = {"type": "integer", "minimum": 0, "maximum": int(MOST)}
MAYBE_COUNT = {**COUNT, "type": ["integer", "null"]}
LENGTH = {"type": "number", "exclusiveMinimum": 0, "maximum": 10**6}
SIDE = {"type": "integer", "minimum": 1, "maximum": 10**6}


def _object(required: dict | None = None, optional: dict | None = None, others: dict | bool = True) -> dict:
    required = required or {}
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "additionalProperties": others,
    }


def _array(items: dict, fewest: int = 0, most: int = 10**6) -> dict:
    return {"type": "array", "items": items, "minItems": fewest, "maxItems": most}


def _or_null(schema: dict) -> dict:
    return {**schema, "type": [schema["type"], "null"]}


LESIONS = _object(
    {
        "reference": _array({"type": "array", "prefixItems": [NUMBER, {"type": "boolean"}], "minItems": 2}),
        "predicted": COUNT,
        "false": COUNT,
    }
)
SCORES = _object(optional={"lesions": _or_null(LESIONS)}, others=MAYBE_NUMBER)
STATISTIC = _object(
    {
        "mean": MAYBE_NUMBER,
        "sd": MAYBE_NUMBER,
        "n": COUNT,
        "low": MAYBE_NUMBER,
        "high": MAYBE_NUMBER,
        "folds": _array(MAYBE_NUMBER),
        "mean_of_folds": MAYBE_NUMBER,
        "sd_of_folds": MAYBE_NUMBER,
    }
)
STATISTICS = _object(others=STATISTIC)
COST = _object(
    {"input": _array(SIDE, 3, 4), "parameters": COUNT, "conv_macs": COUNT, "matmul_macs": COUNT},
    {"accelerated_conv_macs": COUNT},
)
MODEL = _object(
    {
        "trainer": MAYBE_TEXT,
        "plans": ONE_LINE,
        "configuration": ONE_LINE,
        "network": ONE_LINE,
        "training": {"type": ["object", "null"]},
        "patch_size": _array(SIDE, 2, 3),
        "batch_size": SIDE,
        "spacing": _array(LENGTH, 2, 3),
        "normalization": TEXTS,
    },
    {"cost": _or_null(COST), "architecture": {"type": "object"}},
)
CASE = _object(
    {
        "case": ONE_LINE,
        "fold": MAYBE_COUNT,
        "subject": MAYBE_TEXT,
        "prediction": ONE_LINE,
        "reference": ONE_LINE,
        "images": TEXTS,
        "spacing": _array(LENGTH, 3, 3),
        "shape": _array(SIDE, 3, 3),
        "classes": _object(others=SCORES),
        "mean": _object(others=MAYBE_NUMBER),
    },
    {"reference_sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"}},
)
FOLD = _object(
    {"fold": COUNT, "state": ONE_LINE, "curves": _object(others=_array(MAYBE_NUMBER))},
    {
        "detail": ONE_LINE,
        "cases": COUNT,
        "seconds": MAYBE_NUMBER,
        "device": MAYBE_TEXT,
        "command": {"type": "string"},
    },
)
BIN = _object({"from": NUMBER, "to": MAYBE_NUMBER, "lesions": COUNT, "detected": COUNT, "unit": ONE_LINE})
DATASET = _object(
    {
        "name": ONE_LINE,
        "file_ending": ONE_LINE,
        "channels": TEXTS,
        "classes": _array(ONE_LINE, 1, 10_000),
        "class_labels": _object(others=_array(COUNT, 1)),
        "background_label": COUNT,
        "unit": ONE_LINE,
        "volume_unit": ONE_LINE,
        "slice_axis": {"enum": [0, 1, 2]},
        "release": MAYBE_TEXT,
    },
    {
        "release_options": _object(optional={"axis": ONE_LINE}) | {"dependentRequired": {"paper_slices": ["axis"]}},
        "ignore_label": MAYBE_COUNT,
    },
)
EVALUATION = _object(
    {
        "format": {"const": FORMAT},
        "written_by": ONE_LINE,
        "written_at": ONE_LINE,
        "name": ONE_LINE,
        "dataset": DATASET,
        "model": _or_null(MODEL),
        "conventions": _object(others={"type": ["string", "number"]}),
        "convention": ONE_LINE,
        "convention_texts": _object(
            {key: ONE_LINE for key in ("average", "empty", "miou", "f1", "distances")}, others=ONE_LINE
        ),
        "metrics": _array(_object({key: ONE_LINE for key in ("key", "title", "better", "text", "unit")})),
        "split": _object(
            {"part": ONE_LINE},
            {
                **{key: MAYBE_TEXT for key in ("scheme", "sha256", "source")},
                "seed": MAYBE_COUNT,
                "subjects_known": {"type": "boolean"},
            },
        ),
        "folds": _array(FOLD),
        "missing": TEXTS,
        "cases": _array(CASE, 1),
        "summary": _or_null(_object({"classes": _object(others=STATISTICS), "mean": STATISTICS})),
        "detection_by_size": _or_null(_object(others=_array(BIN))),
        "subset": {"type": "boolean"},
        "commands": STRINGS,
        "versions": _object(others=ONE_LINE),
        "hardware": _object(others={"type": ["string", "integer", "null"]}),
    }
)
