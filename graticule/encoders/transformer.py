"""A pre-norm transformer over ragged groups of tokens: no row of it is ever computed for padding but in attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, pad, scaled_dot_product_attention

from graticule.errors import SettingError

LARGEST_BUCKET = {"cpu": 4096, "cuda": 131_072}  # tokens with padding; small enough for the caches of a processor
UNEVEN = 1.25  # groups of a bucket are at most so many times as long as the shortest, plus 4


@dataclass(frozen=True)
class Bucket:
    """Groups of like length, whose tokens lie side by side: `tokens` of the sorted rows."""

    tokens: slice
    shape: tuple[int, int]  # groups, tokens of the longest
    slots: Tensor | None  # (k,) place of each token in the padded shape; None when all groups are equally long
    present: Tensor | None  # (groups, 1, 1, longest) bool


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)) (pre-norm, Xiong et al. 2020), on (k, width) rows.

    With `where_dim` the coordinates of a token are added, by a linear map, to its queries and keys and to nothing
    else: who looks at whom depends on where they lie, what a token says does not.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, where_dim: int = 0) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        if where_dim:
            self.where = nn.Linear(where_dim, 2 * width, bias=False)
        self.up, self.down = nn.Linear(width, feedforward * width), nn.Linear(feedforward * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bucket: Bucket, where: Tensor | None = None) -> Tensor:
        """(k, width) tokens of a bucket, (k, where_dim) their coordinates -> (k, width)."""
        qkv = self.qkv(self.norm1(x))
        if where is not None:
            qkv = qkv + pad(self.where(where), (0, x.shape[1]))
        x = x + self.dropout(self.out(self._attend(qkv, bucket)))
        x = x + self.dropout(self.down(self.dropout(gelu(self.up(self.norm2(x))))))
        return x

    def _attend(self, qkv: Tensor, bucket: Bucket) -> Tensor:
        groups, longest = bucket.shape
        if bucket.slots is not None:
            qkv = qkv.new_zeros(groups * longest, qkv.shape[1]).index_copy(0, bucket.slots, qkv)
        query, key, value = qkv.view(groups, longest, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        rate = self.rate if self.training else 0.0
        mixed = scaled_dot_product_attention(query, key, value, bucket.present, rate)
        mixed = mixed.transpose(1, 2).reshape(groups * longest, -1)
        return mixed if bucket.slots is None else mixed.index_select(0, bucket.slots)


class Transformer(nn.Module):
    """Blocks over ragged groups: a token attends to the tokens of its own group, and to nothing else.

    Groups are sorted by length and run in buckets of like length. Everything but attention runs on the
    tokens alone, and attention masks what fills a bucket up, so that neither padding nor other groups
    change a result (beyond rounding), and time grows with the number of tokens.
    """

    def __init__(
        self, width: int, depth: int, heads: int, feedforward: int = 4, dropout: float = 0.0, where_dim: int = 0
    ) -> None:
        super().__init__()
        if depth < 1 or heads < 1 or width % heads:
            raise SettingError(
                f"A transformer needs depth >= 1 and heads that divide width, got {depth=} {heads=} {width=}."
            )
        self.blocks = nn.ModuleList(Block(width, heads, feedforward, dropout, where_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, groups: Tensor, layers: int = 1, where: Tensor | None = None) -> Tensor:
        """(t, width) tokens in any order and the number >= 0 of the group of each -> (t, width).

        `where`, (t, where_dim), are their coordinates, for the queries and keys of all blocks.

        With `layers` > 1 the mean of the layer-normed outputs of the last so many blocks, before the
        closing norm (data2vec, Baevski et al. 2022, section 3.3).
        """
        if not 1 <= layers <= len(self.blocks):
            raise SettingError(f"Expected 1 to {len(self.blocks)} last layers, got {layers}.")
        if len(x) == 0:
            return x
        order, buckets = plan(groups)
        ordered, places = x.index_select(0, order), None if where is None else where.index_select(0, order)
        done = torch.cat([self._bucket(ordered, places, bucket, layers) for bucket in buckets])
        return done.index_select(0, torch.empty_like(order).scatter_(0, order, torch.arange(len(x), device=x.device)))

    def _bucket(self, ordered: Tensor, places: Tensor | None, bucket: Bucket, layers: int) -> Tensor:
        x, where, outputs = ordered[bucket.tokens], None if places is None else places[bucket.tokens], []
        for block in self.blocks:
            x = block(x, bucket, where)
            outputs.append(x)
        if layers > 1:
            x = torch.stack([layer_norm(out, out.shape[1:]) for out in outputs[-layers:]]).mean(dim=0)
        normed: Tensor = self.norm(x)
        return normed


def plan(groups: Tensor) -> tuple[Tensor, list[Bucket]]:
    """(t,) group numbers -> the order of tokens by length of group, and the buckets that cover it."""
    counts = torch.bincount(groups)
    sizes = counts.index_select(0, groups)
    order = torch.argsort(sizes * len(counts) + groups, stable=True)
    lengths = torch.sort(counts[counts > 0]).values
    starts = lengths.cumsum(0) - lengths
    plain, first = lengths.tolist(), starts.tolist()
    largest, buckets, begin = LARGEST_BUCKET.get(groups.device.type, LARGEST_BUCKET["cuda"]), [], 0
    while begin < len(plain):
        end = begin + 1
        while (
            end < len(plain) and (end + 1 - begin) * plain[end] <= largest and plain[end] <= UNEVEN * plain[begin] + 4
        ):
            end += 1
        tokens = slice(first[begin], first[end] if end < len(plain) else len(groups))
        buckets.append(_bucket(tokens, lengths[begin:end], plain[end - 1], plain[begin]))
        begin = end
    return order, buckets


def _bucket(tokens: slice, lengths: Tensor, longest: int, shortest: int) -> Bucket:
    shape = (len(lengths), longest)
    if shortest == longest:
        return Bucket(tokens, shape, None, None)
    present = torch.arange(longest, device=lengths.device) < lengths[:, None]
    return Bucket(tokens, shape, present.flatten().nonzero().squeeze(1), present[:, None, None, :])
