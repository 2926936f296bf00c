"""The residual block that SINR and TTE share."""

from __future__ import annotations

from torch import Tensor, nn


class ReluBlock(nn.Module):
    """x + relu(W2 relu(W1 x)) (Mac Aodha 2019, supplement); the dropout between is for training and left out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.w2(self.w1(x).relu()).relu()  # type: ignore[no-any-return]
