"""Networks from multispectral patches to vectors: a small one of our own, and those that published weights fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from graticule.errors import DataError, unknown

GROUPS = 8


class PatchResNet(nn.Module):
    """(n, bands, h, w) -> (n, widths[-1]): a stride-4 stem, one residual block a width, group norm, global average.

    Made to train on a CPU with 64-pixel patches (0.04 G multiplications a patch); h and w at least 4.
    """

    def __init__(self, bands: int = 12, widths: tuple[int, ...] = (32, 64, 128, 256)) -> None:
        super().__init__()
        self.dim = widths[-1]
        self.stem = nn.Conv2d(bands, widths[0], kernel_size=4, stride=4)
        pairs = zip((widths[0], *widths), widths, strict=False)
        self.blocks = nn.Sequential(*[PatchBlock(a, b, 1 if i == 0 else 2) for i, (a, b) in enumerate(pairs)])

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < 4:
            raise DataError(f"Expected patches of at least 4 x 4 pixels, got {tuple(x.shape[-2:])}.")
        pooled: Tensor = self.blocks(self.stem(x)).mean(dim=(2, 3))
        return pooled


class PatchBlock(nn.Module):
    """Two 3 x 3 convolutions with group norm beside a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(GROUPS, outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, outside)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class BasicBlock(nn.Module):
    """The two-convolution block of ResNet-18 (He et al. 2016), named as in torchvision."""

    expansion = 1

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _downsample(inside, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    """The three-convolution block of ResNet-50, stride in the 3 x 3 as torchvision has it."""

    expansion = 4

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _downsample(inside, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def _downsample(inside: int, outside: int, stride: int) -> nn.Module:
    if stride == 1 and inside == outside:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))


class ResNet(nn.Module):
    """ResNet-18 or -50 (He et al. 2016) up to its pooled vector (512 or 2048), parameters named as in torchvision."""

    def __init__(self, depth: int, bands: int = 13) -> None:
        super().__init__()
        block = BasicBlock if depth == 18 else Bottleneck
        counts = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth]
        self.dim = 512 * block.expansion
        self.conv1 = nn.Conv2d(bands, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inside = 64
        for i, count in enumerate(counts):
            width = 64 * 2**i
            blocks = []
            for j in range(count):
                blocks.append(block(inside, width, 2 if i > 0 and j == 0 else 1))
                inside = width * block.expansion
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for i in range(4):
            x = self.get_submodule(f"layer{i + 1}")(x)
        return x.mean(dim=(2, 3))


class VisionTransformer(nn.Module):
    """ViT (Dosovitskiy et al. 2021) up to its class token, parameters named as in timm; the defaults are ViT-S/16.

    Patches of another size than `size` are resized bilinearly, for the position embedding knows only one grid.
    """

    def __init__(
        self, bands: int = 13, dim: int = 384, depth: int = 12, heads: int = 6, size: int = 224, patch: int = 16
    ) -> None:
        super().__init__()
        self.dim, self.size = dim, size
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(bands, dim, patch, patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, dim) * 0.02)
        self.blocks = nn.Sequential(*[TransformerBlock(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (self.size, self.size) and len(x):
            x = functional.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)
        elif not len(x):
            return x.new_zeros(0, self.dim)
        tokens = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], dim=1) + self.pos_embed
        states: Tensor = self.norm(self.blocks(tokens))
        return states[:, 0]


class Attention(nn.Module):
    """Multi-head self-attention with one joined matrix for query, key and value."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).reshape(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.proj(seen.transpose(1, 2).flatten(2))
        return projected


class TransformerBlock(nn.Module):
    """Norm, attention, norm, GELU layer of four times the width; each with its shortcut."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        inner: Tensor = self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x))))
        return x + inner


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "small": PatchResNet,
    "resnet18": partial(ResNet, 18),
    "resnet50": partial(ResNet, 50),
    "vit-small": VisionTransformer,
}


def network(architecture: str, bands: int) -> nn.Module:
    """One of `NETWORKS` with random weights, for `bands` bands."""
    if architecture not in NETWORKS:
        raise unknown("architecture", architecture, NETWORKS)
    return NETWORKS[architecture](bands)
