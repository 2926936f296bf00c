"""A Learner is one way to learn; the trainer knows nothing else about a method."""

from __future__ import annotations

from torch import Tensor, nn

from graticule.geo.placed import Batch


class Learner(nn.Module):
    """Parameters plus a loss. Subclasses: contrastive, JEPA."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses of one batch of tensors; the one under "loss" is minimised."""
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step with progress in (0, 1]: for moving averages and queues."""

    def diagnose(self) -> dict[str, Tensor]:
        """What the log shows beside the losses, e.g. effective rank; called outside the gradient."""
        return {}
