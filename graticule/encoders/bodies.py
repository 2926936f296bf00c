"""Networks between a basis and the embedding: (n, in_dim) -> (n, out_dim)."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from graticule.errors import SettingError, unknown

ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}


def _activation(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


class Linear(nn.Linear):
    """One linear map: the probe of a basis."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(in_dim, out_dim)


class MLP(nn.Sequential):
    """`depth` hidden layers of `width`, each linear and activation, then a linear layer."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        width: int = 512,
        depth: int = 2,
        activation: str = "gelu",
        dropout: float = 0.0,
    ) -> None:
        sizes = [in_dim, *[width] * depth]
        hidden = [
            module
            for a, b in pairwise(sizes)
            for module in (nn.Linear(a, b), _activation(activation), nn.Dropout(dropout))
        ]
        super().__init__(*hidden, nn.Linear(sizes[-1], out_dim))


class ResidualBlock(nn.Module):
    """x + dropout(W2 act(W1 norm(x))); without `norm` a plain residual block."""

    def __init__(self, width: int, activation: str, norm: bool, dropout: float) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.LayerNorm(width) if norm else nn.Identity(),
            nn.Linear(width, width),
            _activation(activation),
            nn.Linear(width, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)  # type: ignore[no-any-return]


class ResidualMLP(nn.Sequential):
    """A linear layer to `width`, `depth` residual blocks, a linear layer out."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        width: int = 384,
        depth: int = 3,
        activation: str = "gelu",
        norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        blocks = [ResidualBlock(width, activation, norm, dropout) for _ in range(depth)]
        last = nn.LayerNorm(width) if norm else nn.Identity()
        super().__init__(nn.Linear(in_dim, width), *blocks, last, nn.Linear(width, out_dim))


class Sine(nn.Module):
    """sin(w0 dropout(W x + b)), initialised as Sitzmann 2020, section 3.2, for inputs of variance `variance`.

    The paper's first layer assumes inputs uniform in [-1, 1] (variance 1/3); its bound is scaled so that other
    inputs give pre-activations of the same variance. Dropout before the sine is SatCLIP's.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        w0: float,
        *,
        first: bool = False,
        variance: float = 1 / 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, out_dim)
        self.dropout = nn.Dropout(dropout)
        self.w0 = w0
        bound = math.sqrt(1 / (3 * variance)) / in_dim if first else math.sqrt(6 / in_dim) / w0
        nn.init.uniform_(self.linear.weight, -bound, bound)
        nn.init.uniform_(self.linear.bias, -1 / in_dim if first else -bound, 1 / in_dim if first else bound)

    def forward(self, x: Tensor) -> Tensor:
        return self.wave(self.linear(x))

    def wave(self, summed: Tensor) -> Tensor:
        """What follows the linear map."""
        return torch.sin(self.w0 * self.dropout(summed))


def _linear_after_sine(width: int, out_dim: int, w0: float) -> nn.Linear:
    layer = nn.Linear(width, out_dim)
    bound = math.sqrt(6 / width) / w0
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.uniform_(layer.bias, -bound, bound)
    return layer


class Siren(nn.Sequential):
    """`depth` sine layers, then a linear layer (Sitzmann 2020; settings of SatCLIP: w0_first 30, w0 1, dropout 0.5)."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        width: int = 512,
        depth: int = 2,
        w0_first: float = 30.0,
        w0: float = 1.0,
        dropout: float = 0.0,
        input_variance: float = 1 / 3,
    ) -> None:
        first = Sine(in_dim, width, w0_first, first=True, variance=input_variance, dropout=dropout)
        others = [Sine(width, width, w0, dropout=dropout) for _ in range(depth - 1)]
        super().__init__(first, *others, _linear_after_sine(width, out_dim, w0))


class SineBlock(nn.Module):
    """(x + sine(sine(x))) / 2, which stays in [-1, 1] (Lu 2021, section 3.2).

    The code of its authors sums instead, halves what enters a branch, and averages in the last block only. Biases
    start at 0: random ones are the same for all places, and block after block drown what differs between places.
    """

    def __init__(self, width: int, w0: float, dropout: float) -> None:
        super().__init__()
        sines = [Sine(width, width, w0, dropout=dropout) for _ in range(2)]
        for sine in sines:
            nn.init.zeros_(sine.linear.bias)
        self.branch = nn.Sequential(*sines)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.branch(x)) / 2  # type: ignore[no-any-return]


class ResidualSiren(nn.Sequential):
    """A first sine layer, `depth` residual blocks of two sine layers, then a linear layer.

    As deep as one likes: every block halves what it is handed, so the variance over places falls from .5 after the
    first layer to about .06 in five blocks, and stays; gradients are alike in all of them. Sums divided by the root of
    2 would keep .4, but start rougher: depth 16 fits as well and generalises worse (docs/LOG.md).

    The 16 sine layers of Climplicit (2025) are about those of depth 8. It averages the sums before the sine of every
    two successive layers, one sine a residual, and takes sinh(2 x) of the first sum, which widens its frequencies; here
    that is `w0_first` and `input_variance`.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        width: int = 512,
        depth: int = 3,
        w0_first: float = 30.0,
        w0: float = 1.0,
        dropout: float = 0.0,
        input_variance: float = 1 / 3,
    ) -> None:
        first = Sine(in_dim, width, w0_first, first=True, variance=input_variance, dropout=dropout)
        blocks = [SineBlock(width, w0, dropout) for _ in range(depth)]
        super().__init__(first, *blocks, _linear_after_sine(width, out_dim, w0))


class Capsules(nn.Module):
    """Equal parts of the input, each through an MLP of its own, summed (GeoCLIP, Vivanco 2023, section 3.1)."""

    def __init__(
        self, in_dim: int, out_dim: int, *, width: int = 1024, depth: int = 3, activation: str = "relu", parts: int = 3
    ) -> None:
        super().__init__()
        if in_dim % parts:
            raise SettingError(f"Capsules need an input that splits into {parts} equal parts, got {in_dim} columns.")
        one = in_dim // parts
        self.parts = nn.ModuleList(
            MLP(one, out_dim, width=width, depth=depth, activation=activation) for _ in range(parts)
        )

    def forward(self, x: Tensor) -> Tensor:
        pieces = x.chunk(len(self.parts), -1)
        return torch.stack([part(piece) for part, piece in zip(self.parts, pieces, strict=True)]).sum(0)


BODIES: dict[str, type[nn.Module]] = {
    "capsules": Capsules,
    "linear": Linear,
    "mlp": MLP,
    "residual-mlp": ResidualMLP,
    "residual-siren": ResidualSiren,
    "siren": Siren,
}


def output_layers(body: nn.Module) -> list[nn.Linear]:
    """The linear layers whose sum is the output of a body."""
    if isinstance(body, Capsules):
        return [layer for part in body.parts for layer in output_layers(part)]
    last = body[-1] if isinstance(body, nn.Sequential) else body
    if not isinstance(last, nn.Linear):
        raise SettingError(f"Expected a body that ends in a linear layer, got {type(last).__name__}.")
    return [last]


def split_body(body: nn.Module) -> tuple[nn.Linear, Callable[[Tensor], Tensor]] | None:
    """The linear layer that a body begins with and all that follows it; None for a body that begins otherwise."""
    if isinstance(body, nn.Linear):
        return body, nn.Identity()
    first, *others = body if isinstance(body, nn.Sequential) else [None]
    rest = nn.Sequential(*others)
    if isinstance(first, Sine):
        return first.linear, lambda summed: rest(first.wave(summed))
    return (first, rest) if isinstance(first, nn.Linear) else None


def body_options(name: str) -> dict[str, Any]:
    """Options of a body and their defaults; raises SettingError for an unknown body."""
    if name not in BODIES:
        raise unknown("body", name, BODIES)
    parameters = inspect.signature(BODIES[name].__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def body(
    name: str, in_dim: int, out_dim: int, width: int | None = None, depth: int | None = None, **options: Any
) -> nn.Module:
    """The body called `name`; `width` and `depth` None mean its own defaults.

    Raises SettingError for an unknown body or an option it does not have.
    """
    valid = body_options(name)
    given = options | {key: value for key, value in (("width", width), ("depth", depth)) if value is not None}
    for option in given:
        if option not in valid:
            raise unknown(f"option of body {name!r}", option, valid)
    for option in ("width", "depth", "parts"):
        if given.get(option, 1) < 1:
            raise SettingError(f"Body {name!r} needs a {option} of 1 or more, got {given[option]}.")
    return BODIES[name](in_dim, out_dim, **given)
