"""Cases that fail a check: all of a data set are named in one run, so that they can be mended in one go."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset_conversion.cases import Case
from dataset_conversion.image_files import read_image
from dataset_conversion.pictures import open_picture
from nnunet_sfma.errors import UserError

MOST_NAMED = 20


@dataclass(frozen=True)
class Refused:
    """Why a case cannot be written, a sentence for each damaged file or for what is wrong with the case."""

    sentences: list[str]

    @classmethod
    def because(cls, error: UserError, case: Case) -> "Refused":
        """Return the refusal of a case that ended in an error; all its files are read, as several may be damaged."""
        return cls(_damaged(case.sources) or [str(error)])


def raise_if_refused(refused: Sequence[Refused], n_cases: int) -> None:
    """Raise one UserError that says of all refused cases, up to twenty sentences, what is wrong."""
    sentences = [sentence for each in refused for sentence in each.sentences]
    raise_together(sentences, f"{len(refused)} of {n_cases} cases cannot be converted")


def raise_together(sentences: Sequence[str], title: str) -> None:
    """Raise one UserError with all sentences, up to twenty, or with the only one; none raises nothing."""
    if len(sentences) == 1:
        raise UserError(sentences[0])
    if sentences:
        listed = " ".join(f"({number}) {sentence}" for number, sentence in enumerate(sentences[:MOST_NAMED], 1))
        more = len(sentences) - MOST_NAMED
        raise UserError(f"{title}: {listed}{f' And {more} more.' if more > 0 else ''}")


def _damaged(paths: Sequence[Path]) -> list[str]:
    sentences = []
    for path in paths:
        read = read_image if path.name.lower().endswith((".nii", ".nii.gz")) else open_picture
        try:
            read(path)
        except UserError as error:
            sentences.append(str(error))
    return sentences
