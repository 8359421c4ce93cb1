"""What an interrupted run did of an epoch, as its checkpoint keeps it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class UnfinishedEpoch:
    """The part of an epoch that an earlier run did; empty for an epoch that starts.

    Attributes:
        outputs: what ``train_step`` returned, one entry for each iteration.
        seconds: how long that took.
    """

    outputs: list[dict] = field(default_factory=list, repr=False)
    seconds: float = 0.0

    @classmethod
    def of(cls, checkpoint: dict) -> "UnfinishedEpoch":
        """The part that a checkpoint keeps; empty if it was written after an epoch."""
        kept = checkpoint.get("unfinished_epoch")
        return cls(kept["outputs"], kept["seconds"]) if kept else cls()
