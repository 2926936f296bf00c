"""Tiny randomly initialised picture models in the folder layout of `transformers`, and pictures to feed them."""

import io
import json

import numpy as np
import pytest
from PIL import Image


def write_clip_folder(folder, seed=0, *, edge=32, crop=True):
    """A CLIP of two thin layers (projection 16) with its preprocessing and a word-level tokenizer."""
    transformers = pytest.importorskip("transformers")
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    torch.manual_seed(seed)
    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = transformers.CLIPConfig(
        vision_config={**sizes, "image_size": edge, "patch_size": 8},
        text_config={**sizes, **ends, "vocab_size": 40, "max_position_embeddings": 12},
        projection_dim=16,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    preparation = {
        "do_resize": True,
        "size": {"shortest_edge": edge} if crop else {"height": edge, "width": edge},
        "resample": 3,
        "do_center_crop": crop,
        "crop_size": {"height": edge, "width": edge},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.48, 0.46, 0.41],
        "image_std": [0.27, 0.26, 0.28],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preparation))
    words = ["<s>", "</s>", "<unk>", *["a", "fishing", "harbour", "village", "river", "mountain", "in", "the", "rain"]]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"unk_token": "<unk>", "pad_token": "</s>", "bos_token": "<s>", "eos_token": "</s>"}
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 12, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return folder


def picture(seed=0, *, width=50, height=40, orientation=None, format="PNG"):
    """The bytes of a random picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image, stream = Image.fromarray(pixels), io.BytesIO()
    exif = Image.Exif()
    if orientation is not None:
        exif[274] = orientation
    image.save(stream, format=format, exif=exif)
    return stream.getvalue()
