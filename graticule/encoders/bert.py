"""BERT as a function of the weights in a local Hugging Face folder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from graticule.errors import DataError

MODEL_TYPES = ("bert", "roberta", "xlm-roberta")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
}


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
