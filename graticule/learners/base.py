"""A Learner is one way to learn; the trainer knows nothing else about a method."""

from __future__ import annotations

from torch import Tensor, nn

from graticule.geo.placed import Batch
from graticule.learners.together import Together


class Learner(nn.Module):
    """Parameters plus a loss. Subclasses: contrastive, JEPA.

    together       the process among those that learn from the same batches; the trainer says which
    whole_batches  True: every process is given all rows and takes its share itself, not the trainer for it
    """

    together = Together()
    whole_batches = False

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses of one batch of tensors; the mean over processes of the one under "loss" is minimised."""
        raise NotImplementedError

    def networks(self) -> list[nn.Module]:
        """Where nearly all of the time and of the weights are: what may be compiled or laid in shards."""
        return []

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step with progress in (0, 1]: for moving averages and queues."""

    def diagnose(self) -> dict[str, Tensor]:
        """What the log shows beside the losses, e.g. effective rank; called outside the gradient."""
        return {}
