"""Location encoders: a basis of functions of a place and a network over it."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from graticule.encoders.bases import basis_options, build_basis, completed, constant_columns, parts
from graticule.encoders.basis import Basis
from graticule.encoders.bodies import body as build_body
from graticule.encoders.bodies import body_options, output_layers
from graticule.encoders.harmonics import check_degree, harmonics
from graticule.errors import SettingError, unknown
from graticule.geo.coords import fibonacci_lattice

DEFAULTS: dict[str, Any] = {"body": "residual-mlp", "dim": 256, "low_frequency": 0, "seed": 0}

PRESETS: dict[str, dict[str, Any]] = {
    "graticule": {"name": "harmonics", "max_degree": 30, "damping": 1.0, "low_frequency": 10},
    "satclip": {
        "name": "harmonics",
        "body": "siren",
        "max_degree": 9,
        "width": 512,
        "depth": 2,
        "w0_first": 30.0,
        "w0": 1.0,
        "dropout": 0.5,
        "input_variance": 1 / 3,
        "dim": 256,
    },
    "geoclip": {"name": "equal-earth", "body": "capsules", "width": 1024, "depth": 3, "dim": 512},
    "csp": {"name": "space2vec", "body": "residual-mlp", "activation": "relu", "width": 512, "depth": 1, "dim": 256},
}


class BasisLayer(nn.Module):
    """A basis whose learnable arrays are parameters and whose random arrays are buffers."""

    def __init__(self, basis: Basis) -> None:
        super().__init__()
        self.basis = basis
        for name, array in basis.arrays().items():
            if name in basis.learned:
                self.register_parameter(name, nn.Parameter(torch.from_numpy(array)))
            else:
                self.register_buffer(name, torch.from_numpy(array))

    @property
    def constant_dim(self) -> int:
        """Number of columns that training leaves as they are."""
        return sum(part.dim for _, part in parts(self.basis) if not part.learned)

    def constant(self, points: Tensor) -> Tensor:
        """(n, 2) lon/lat degrees float64 -> (n, constant_dim), to hand in again as `known`."""
        return constant_columns(self.basis, points, self.arrays())  # type: ignore[no-any-return]

    def forward(self, points: Tensor, known: Tensor | None = None) -> Tensor:
        """(n, 2) lon/lat degrees float64 -> (n, basis.dim)."""
        if known is None:
            return self.basis(points, self.arrays())  # type: ignore[no-any-return]
        return completed(self.basis, points, self.arrays(), known)  # type: ignore[no-any-return]

    def arrays(self) -> dict[str, Tensor]:
        """The arrays of the basis as they are now."""
        return dict(self.named_parameters()) | dict(self.named_buffers())


class LocationEncoder(nn.Module):
    """(n, 2) lon/lat degrees float64 -> (n, dim) float32, or the body's float64: body(basis(points)).

    With `low_frequency` of 1 or more, harmonics up to that degree are carried past the body: a linear map
    of them is added to the output, so broad gradients reach the embedding whatever the body makes of the rest.
    `config` holds JSON types; `location_encoder(**config)` and the state_dict give the same encoder again.
    """

    def __init__(self, basis: Basis, body: nn.Module, dim: int, low_frequency: int, config: dict[str, Any]) -> None:
        super().__init__()
        self.basis = BasisLayer(basis)
        self.body = body
        self.low_frequency = low_frequency
        self.skip = nn.Linear((low_frequency + 1) ** 2, dim, bias=False) if low_frequency else None
        self._dim, self._config = dim, config

    @property
    def dim(self) -> int:
        """Length of one embedding."""
        return self._dim

    @property
    def config(self) -> dict[str, Any]:
        """All settings in JSON types; a copy."""
        return json.loads(json.dumps(self._config))  # type: ignore[no-any-return]

    @property
    def seamless(self) -> bool:
        """Continuous at the antimeridian and the poles?"""
        return self.basis.basis.seamless

    def features(self, points: Tensor, known: Tensor | None = None) -> Tensor:
        """(n, 2) lon/lat degrees -> (n, basis.dim), what the body sees; constant unless the basis is learned.

        `known` are the columns of `basis.constant`, also in float16, where they were computed before.
        """
        return self.basis(points, known)  # type: ignore[no-any-return]

    def forward(self, points: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Tensor:
        """(n, 2) lon/lat degrees float64 -> (n, dim); `features`, or the `known` ones, may be handed in."""
        columns = self.features(points, known) if features is None else features
        out = self.body(columns.to(next(self.body.parameters()).dtype))
        if self.skip is not None:
            low = harmonics(points, self.low_frequency)
            out = out + self.skip(low.to(self.skip.weight.dtype))
        return out.to(torch.promote_types(out.dtype, torch.float32))  # type: ignore[no-any-return]

    def compile(self, **options: Any) -> None:
        """torch.compile of the body; the basis has no weights to speak of, and recurrences that do not gain by it."""
        self.body.compile(**options)

    @torch.no_grad()
    def transform(self, matrix: Tensor, offset: Tensor) -> None:
        """From now on every vector v is v @ matrix + offset: (dim, dim) and (dim,) go into the last layers."""
        layers = output_layers(self.body)
        for layer in layers if self.skip is None else [*layers, self.skip]:
            layer.weight.copy_(matrix.T @ layer.weight)
            if layer.bias is not None:
                layer.bias.copy_(layer.bias @ matrix)
        layers[0].bias.add_(offset)


def location_encoder(
    name: str = "harmonics",
    *,
    body: str | None = None,
    dim: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    low_frequency: int | None = None,
    seed: int | None = None,
    **options: Any,
) -> LocationEncoder:
    """The encoder on the basis `name`, several bases joined by "+" (`"harmonics+hash-grid"`), or a preset.

    What is not given comes from the preset (what another body does not know of it is left out), else from
    DEFAULTS (residual-mlp, 256 dimensions, no low-frequency path, seed 0), else from the basis or the body.
    `options` are settings of the basis (`max_degree=40`) or of the body (`dropout=0.5`). The same arguments
    give the same weights; the global random state is left alone.

    Raises SettingError for an unknown name or option, with the nearest valid ones.
    """
    named = {"body": body, "dim": dim, "width": width, "depth": depth, "low_frequency": low_frequency, "seed": seed}
    given = options | {key: value for key, value in named.items() if value is not None}
    settings = DEFAULTS | PRESETS.get(name, {"name": name}) | given
    main = {key: settings.pop(key) for key in ("name", *DEFAULTS)}
    of_basis, of_body = basis_options(main["name"], also_valid=PRESETS), body_options(main["body"])
    valid = of_basis | of_body
    for option in settings.keys() & given.keys() - valid.keys():
        raise unknown(f"option of {main['name']!r} with body {main['body']!r}", option, valid)
    if main["dim"] < 1:
        raise SettingError(f"A location encoder needs a dim of 1 or more, got {main['dim']}.")
    check_degree(main["low_frequency"])
    basis = build_basis(main["name"], seed=main["seed"], **{k: v for k, v in settings.items() if k in of_basis})
    body_settings = of_body | {key: value for key, value in settings.items() if key in of_body}
    if "input_variance" in of_body and "input_variance" not in settings:
        body_settings["input_variance"] = max(1e-2, _mean_square(basis))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(main["seed"])
        network = build_body(main["body"], basis.dim, main["dim"], **body_settings)
        config = main | {k: v for k, v in basis.settings().items() if k != "seed"} | body_settings
        return LocationEncoder(basis, network, main["dim"], main["low_frequency"], config)


def _mean_square(basis: Basis) -> float:
    """Mean square of the basis over the sphere and its columns."""
    return float((basis(fibonacci_lattice(1000)) ** 2).mean())
