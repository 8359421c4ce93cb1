"""Published weights on the Hugging Face hub, in the cache that timm uses as well."""

import threading
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

from nnunet_sfma.errors import UserError

FILE_NAME = "model.safetensors"
WAIT_SECONDS = 12.0


def cached(name: str) -> Path | None:
    """The cached file of published weights, if there is one."""
    path = try_to_load_from_cache(name, FILE_NAME)
    return Path(path) if isinstance(path, str) else None


def fetch(name: str) -> Path:
    """The cached file of published weights, downloaded if it is not there.

    Raises:
        UserError: if it is not there and the hub does not answer within ``WAIT_SECONDS``, or the download fails.
    """
    path = cached(name)
    if path is not None:
        return path
    try:
        _ask(hf_hub_url(name, FILE_NAME))
        return Path(hf_hub_download(name, FILE_NAME))
    except Exception as error:  # each release of the hub's library has network errors of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"The weights {name} are not in the cache {constants.HF_HUB_CACHE} and cannot be fetched ({reason}): run "
            f"nnunet-sfma weights --fetch where there is a network and copy that cache here, or make a plan with "
            f"training.pretrained=FILE, a local copy of their {FILE_NAME}, or with training.pretrained=none to train "
            f"from scratch."
        ) from error


def _ask(url: str) -> None:
    """Raise unless the hub answers in time.

    A download repeats its question for minutes before it gives up, and the library's own timeouts start anew with each
    address and each line of an answer.
    """
    errors: list[Exception] = []

    def ask() -> None:
        try:
            get_hf_file_metadata(url)
        except Exception as error:
            errors.append(error)

    question = threading.Thread(target=ask, daemon=True)
    question.start()
    question.join(WAIT_SECONDS)
    if question.is_alive():
        raise TimeoutError(f"no answer within {WAIT_SECONDS:.0f} s")
    if errors:
        raise errors[0]
