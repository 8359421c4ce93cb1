"""The one reader for JSON files that lie in users' folders: what it returns has been checked against a schema.

In these schemas a number is finite, and an integer is written without a point or an exponent.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from jsonschema.validators import extend

from nnunet_sfma.errors import UserError
from nnunet_sfma.sentences import shortened

LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
DEFAULT_ADVICE = "restore it, or make it again"
MISSING_ADVICE = "check the path, or make it again"

# the name of a file in the folder of the file that mentions it: nothing that leads out of that folder
BARE_NAME = {"type": "string", "pattern": r"^(?!\.{1,2}$)[^/\\\x00-\x1f\x7f]{1,200}$"}
# what stands in tables and on terminals: no line breaks, no escape sequences
ONE_LINE = {"type": "string", "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$", "maxLength": 5000}
STRINGS = {"type": "array", "items": {"type": "string"}}


def _is_integer(_, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(checker: Any, value: Any) -> bool:
    return _is_integer(checker, value) or (isinstance(value, float) and math.isfinite(value))


TYPES = Draft202012Validator.TYPE_CHECKER.redefine_many({"integer": _is_integer, "number": _is_number})
Validator = extend(Draft202012Validator, type_checker=TYPES)


def read_json(
    path: Path, schema: dict | None = None, *, advice: str = DEFAULT_ADVICE, missing: str | None = None
) -> Any:
    """Return the content of a JSON file that a user, a program or an accident may have changed.

    Args:
        path: of the file.
        schema: JSON Schema (draft 2020-12) of what the caller relies on; keys it does not name are allowed.
        advice: what to do about a damaged file, the end of the sentence.
        missing: the whole sentence if there is no such file; otherwise a general one.

    Raises:
        UserError: if the file is not there, is not a regular file, cannot be read, is not JSON in UTF-8, is nested too
            deeply, or does not fit the schema. The sentence names the file, the place in it and what to do.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "dataset.json")
        >>> _ = path.write_text('{"labels": {"background": 0}}')
        >>> read_json(path, {"type": "object", "required": ["labels"]})
        {'labels': {'background': 0}}
    """
    path = Path(path)
    return parse_json(_read(path, missing, advice), schema, source=str(path), advice=advice)


def parse_json(text: str, schema: dict | None = None, *, source: str, advice: str = DEFAULT_ADVICE) -> Any:
    """Return the value of a JSON text; ``source`` is how the sentence calls it.

    Raises:
        UserError: as :func:`read_json`.
    """
    try:
        content = json.loads(text)
        if LONE_SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode()
        if schema is not None:
            check_content(content, schema, source=source, advice=advice)
    except json.JSONDecodeError as wrong:
        place = f"line {wrong.lineno}, column {wrong.colno}"
        raise UserError(f"{source} is damaged ({place}: {wrong.msg}): {advice}.") from None
    except UnicodeEncodeError:
        raise UserError(f"{source} is damaged (half of a surrogate pair, which is no character): {advice}.") from None
    except ValueError as wrong:  # a number with more digits than Python converts
        raise UserError(f"{source} is damaged ({wrong}): {advice}.") from None
    except RecursionError:
        raise UserError(f"{source} is damaged (nested too deeply): {advice}.") from None
    return content


def valid(content: Any, schema: dict) -> bool:
    """Return whether a value fits a schema."""
    return Validator(schema).is_valid(content)


def check_content(content: Any, schema: dict, *, source: str, within: str = "", advice: str = DEFAULT_ADVICE) -> None:
    """Check what was made of a file against a schema; ``within`` is the place of ``content`` in the file.

    Raises:
        UserError: if it does not fit.
    """
    error = best_match(Validator(schema).iter_errors(content))
    if error is not None:
        place = ".".join(filter(None, (within, error.json_path.removeprefix("$").removeprefix(".")))) or "top level"
        raise UserError(f"{source} is damaged ({place}: {shortened(error.message)}): {advice}.")


def _read(path: Path, missing: str | None, advice: str) -> str:
    try:
        if not path.exists():
            raise UserError(missing or f"There is no {path}: {MISSING_ADVICE}.")
        if not path.is_file():  # a folder, or a pipe that would never end
            raise UserError(f"{path} is not a regular file: {MISSING_ADVICE}.")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is damaged (not UTF-8): {advice}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): make it readable.") from None
