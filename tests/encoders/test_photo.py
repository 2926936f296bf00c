import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from graticule.encoders.photo import PhotoTrunk, cropped, prepared, read_preparation, target_size
from graticule.errors import DataError, MissingExtra, SettingError
from tests.photo_model import picture, write_clip_folder

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_clip_folder(tmp_path_factory.mktemp("clip"))


def naive_pixels(content, edge=32, mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28)):
    """Resize the short side, crop the middle, then pixel by pixel."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    scale = edge / min(image.size)
    image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    image = image.crop((left, top, left + edge, top + edge))
    return np.array(
        [
            [[(image.getpixel((x, y))[c] / 255 - mean[c]) / std[c] for x in range(edge)] for y in range(edge)]
            for c in range(3)
        ]
    )


def test_preparation_equals_the_naive_loop(folder):
    for content in (picture(1), picture(2, width=37, height=64)):
        np.testing.assert_allclose(prepared(content, read_preparation(folder), 0), naive_pixels(content), atol=1e-5)


def test_vectors_equal_the_model_on_naive_pixels(folder):
    contents = [picture(1), picture(2, width=64, height=33), picture(3, format="JPEG")]
    model = transformers.CLIPModel.from_pretrained(str(folder)).eval()
    pixels = torch.tensor(np.stack([naive_pixels(c) for c in contents]), dtype=torch.float32)
    with torch.inference_mode():
        pooled = model.vision_model(pixel_values=pixels).pooler_output
        expected = model.visual_projection(pooled).numpy()
    found = PhotoTrunk(folder, batch=2)(contents)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.shape == (3, 16)


def test_text_lands_in_the_space_of_pictures(folder):
    trunk = PhotoTrunk(folder)
    vectors = trunk.text(["a fishing harbour", "rain in the mountain", "a fishing harbour"])
    assert vectors.shape == (3, trunk.dim)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-6)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)
    model = transformers.CLIPModel.from_pretrained(str(folder)).eval()
    with torch.inference_mode():
        ids = torch.tensor([trunk.tokenizer("a fishing harbour")["input_ids"]])
        expected = model.text_projection(model.text_model(input_ids=ids).pooler_output).numpy()
    np.testing.assert_allclose(vectors[:1], expected, atol=1e-5)


def test_pictures_are_turned_upright(folder):
    """Orientation 6 means: rotate by 270 degrees to view; PNG keeps pixels exactly."""
    settings = read_preparation(folder)
    turned = Image.open(io.BytesIO(picture(4))).transpose(Image.Transpose.ROTATE_270)
    stream = io.BytesIO()
    turned.save(stream, format="PNG")
    upright = prepared(stream.getvalue(), settings, 0)
    assert np.array_equal(prepared(picture(4, orientation=6), settings, 0), upright)
    assert not np.array_equal(prepared(picture(4), settings, 0), upright)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_other_colour_modes(folder, mode):
    stream = io.BytesIO()
    Image.open(io.BytesIO(picture(5))).convert(mode).save(stream, format="TIFF")
    assert np.isfinite(PhotoTrunk(folder)([stream.getvalue()])).all()


def test_vit_gives_its_class_token(tmp_path):
    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = transformers.ViTModel(transformers.ViTConfig(**sizes, image_size=16, patch_size=8), add_pooling_layer=False)
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 16}))
    content = picture(6)
    pixels = torch.from_numpy(prepared(content, read_preparation(tmp_path), 0))[None]
    with torch.inference_mode():
        expected = model.eval()(pixel_values=pixels).last_hidden_state[:, 0].numpy()
    trunk = PhotoTrunk(tmp_path)
    np.testing.assert_allclose(trunk([content]), expected, atol=1e-5)
    with pytest.raises(SettingError, match="no text side"):
        trunk.text(["a"])


def test_siglip_gives_its_pooled_vector(tmp_path):
    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = transformers.SiglipConfig(
        vision_config={**sizes, "image_size": 16, "patch_size": 8}, text_config={**sizes, "vocab_size": 9}
    )
    model = transformers.SiglipModel(config).eval()
    model.save_pretrained(tmp_path)
    about = {"do_center_crop": None, "size": {"height": 16, "width": 16}, "resample": 2}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": about}))
    content = picture(7)
    pixels = torch.from_numpy(prepared(content, read_preparation(tmp_path), 0))[None]
    assert pixels.shape == (1, 3, 16, 16)
    with torch.inference_mode():
        expected = model.vision_model(pixel_values=pixels).pooler_output.numpy()
    trunk = PhotoTrunk(tmp_path)
    np.testing.assert_allclose(trunk([content]), expected, atol=1e-5)
    assert trunk([]).shape == (0, 24)


def test_sizes_and_crops():
    assert target_size((50, 40), {"shortest_edge": 20}) == (25, 20)
    assert target_size((40, 50), {"shortest_edge": 20}) == (20, 25)
    assert target_size((40, 50), {"height": 7, "width": 9}) == (9, 7)
    values = np.arange(5 * 4 * 3, dtype=np.float32).reshape(5, 4, 3)
    assert np.array_equal(cropped(values, 3, 2), values[1:4, 1:3])
    padded = cropped(values, 7, 4)
    assert np.array_equal(padded[1:6], values)
    assert not padded[[0, 6]].any()


def test_broken_pictures_name_their_row(folder):
    with pytest.raises(DataError, match=r"JPEG, PNG, ....* in row 1"):
        PhotoTrunk(folder)([picture(0), b"\xff\xd8 not a picture"])
    with pytest.raises(DataError, match="row 0"):
        PhotoTrunk(folder)([picture(0)[:400]])


def test_unfit_folders_are_named(tmp_path, folder):
    with pytest.raises(DataError, match=r"config\.json: no such file"):
        PhotoTrunk(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    with pytest.raises(DataError, match="'whisper' is not supported, only clip"):
        PhotoTrunk(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(DataError, match="image processor"):
        PhotoTrunk(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"longest_edge": 3}}))
    with pytest.raises(DataError, match="shortest_edge or height and width"):
        PhotoTrunk(tmp_path)


def test_without_transformers_the_pip_line_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"pip install 'graticule\[photo\]'"):
        PhotoTrunk(folder)


def test_identity_follows_weights_and_preparation(tmp_path, folder):
    same = write_clip_folder(tmp_path / "same")
    assert PhotoTrunk(folder).identity() == PhotoTrunk(same, batch=3).identity()
    path = same / "preprocessor_config.json"
    path.write_text(path.read_text().replace("0.48", "0.5"))
    assert PhotoTrunk(folder).identity() != PhotoTrunk(same).identity()
    assert PhotoTrunk(write_clip_folder(tmp_path / "other", seed=1)).identity() != PhotoTrunk(folder).identity()
