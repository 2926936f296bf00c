"""STAC items of models and of files of vectors."""

import hashlib
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest
from pystac.extensions.file import FileExtension
from pystac.extensions.mlm import MLMExtension

import graticule
from graticule.bulk import embed_table
from graticule.errors import DataError, SettingError
from graticule.export.model_item import count_parameters, write_model_item
from graticule.export.stac import plain_name, relative, shape
from graticule.export.vectors_item import write_vectors_items
from tests.export.schemas import core, faults, published

REQUIRED = (
    ("", "emb:type"),
    ("", "emb:dimensions"),
    ("", "data_type"),
    ("", "extent"),
    ("properties", "mlm:name"),
    ("properties", "mlm:input"),
    ("properties", "mlm:output"),
    ("properties", "datetime"),
    ("assets", "embeddings"),
)


@pytest.fixture
def item(run, tmp_path):
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"a graph")
    return write_model_item(run, [graph], tmp_path / "item.json")


@pytest.fixture
def vectors(run, tmp_path):
    path = tmp_path / "fiji.parquet"
    run.save(path, lon=[179.5, -179.5, 178], lat=[-17, -16, -18], int8=True)
    return path


def test_a_model(item, run):
    """Another library reads what the extension asks for."""
    read = pystac.Item.from_file(str(item))
    assert faults(json.loads(item.read_text()), core(), extensions=False) == []
    model = MLMExtension.ext(read)
    assert (model.mlm_name, model.tasks) == ("small", ["similarity-search"])
    assert model.architecture == "harmonics basis, residual-mlp body"
    assert (model.framework, model.pretrained_source) == ("PyTorch", "image: licence of image; text: licence of text")
    assert model.total_parameters == sum(p.numel() for p in run.location.parameters())
    assert model.hyperparameters.to_dict() == {"recipe": "imagebind", **run.location.config}
    (lonlat,), (embedding,) = model.input, model.output
    assert (lonlat.name, lonlat.bands, lonlat.input.shape) == ("lonlat", [], [-1, 2])
    assert (lonlat.input.dim_order, lonlat.input.data_type) == (["batch", "coordinate"], "float64")
    assert (embedding.name, embedding.result.shape, embedding.result.data_type) == ("embedding", [-1, 16], "float32")
    assert (read.bbox, read.datetime) == ([-180, -90, 180, 90], None)
    for asset in read.assets.values():
        content = (item.parent / asset.href).read_bytes()
        assert FileExtension.ext(asset).size == len(content)
        assert FileExtension.ext(asset).checksum == "1220" + hashlib.sha256(content).hexdigest()
    saved = "mlm:artifact_type"
    models = {name: asset.extra_fields[saved] for name, asset in read.get_assets(role="mlm:model").items()}
    assert models == {"onnx": "torch.onnx.export", "weights": "safetensors.torch.save_file"}


def test_the_folder_of_an_item_is_a_run(item, run):
    again = graticule.load(item.parent)
    assert again.about == run.about
    assert np.array_equal(again.embed(lon=[1], lat=[2]), run.embed(lon=[1], lat=[2]))


def test_a_folder_of_another_run_is_left_alone(run, tmp_path):
    with pytest.raises(SettingError, match="holds another run than 'graticule-small': choose another folder with -o"):
        write_model_item(graticule.load(), [], shutil.copytree(run.folder, tmp_path / "run") / "item.json")


def test_the_model_inside(tmp_path):
    inside = graticule.load()
    read = json.loads(write_model_item(inside, [], tmp_path / "item.json").read_text())["properties"]
    assert [output["name"] for output in read["mlm:output"]] == ["embedding", "shared"]
    assert read["mlm:total_parameters"] == count_parameters(inside.folder) > 3e6
    assert "CC BY-SA, Wikipedia" in read["mlm:pretrained_source"]


def test_vectors(vectors, item, run):
    collection, one = (
        json.loads(path.read_text()) for path in write_vectors_items(vectors, vectors.parent, model_item=item)
    )
    assert (collection["emb:type"], collection["emb:dimensions"], collection["data_type"]) == ("chip", 16, "int8")
    assert collection["extent"]["spatial"]["bbox"] == [one["bbox"]] == [[178, -18, -179.5, -16]]
    assert one["geometry"]["type"] == "MultiPolygon"
    assert one["assets"].keys() == {"embeddings"}
    assert one["assets"]["embeddings"]["href"] == "./fiji.parquet"
    assert one["properties"]["emb:runtime_parameters"]["model_hash"] == run.about["weights"]
    packed = one["properties"]["emb:quantization"]
    assert (packed["method"], packed["original_dtype"], packed["quantized_dtype"]) == ("linear", "float32", "int8")
    emb = json.loads(pq.read_schema(vectors).metadata[b"emb"])
    assert packed["scale"] == emb["quantization"]["scale"]
    for document, others in ((collection, {"item": "./fiji.json"}), (one, {"collection": "./fiji-collection.json"})):
        links = {link["rel"]: link["href"] for link in document["links"]}
        assert links == others | {"emb:model": "./item.json", "emb:source-data": "./fiji.parquet"}
        assert "licence of text" in document.get("description", document.get("properties", {}).get("description"))


def test_vectors_elsewhere_without_the_item_of_their_model(run, tmp_path):
    run.save(tmp_path / "one.parquet", lon=[13.4], lat=[52.5])
    collection, one = (
        json.loads(path.read_text()) for path in write_vectors_items(tmp_path / "one.parquet", tmp_path / "stac")
    )
    assert one["geometry"] == {"type": "Point", "coordinates": [13.4, 52.5]}
    assert one["assets"]["embeddings"]["href"] == "../one.parquet"
    assert "emb:quantization" not in one["properties"]
    assert collection["data_type"] == "float32"
    assert collection["links"][1]["href"] == f"urn:graticule:{run.about['weights']}"


def test_float16_vectors_have_a_data_type_and_no_scale(run, tmp_path):
    places = tmp_path / "places.csv"
    places.write_text("lon,lat\n13.4,52.5\n11.6,48.1\n")
    embed_table(run, places, tmp_path / "half.parquet", numbers="float16")
    collection, one = (
        json.loads(path.read_text()) for path in write_vectors_items(tmp_path / "half.parquet", tmp_path)
    )
    assert collection["data_type"] == "float16"
    assert "emb:quantization" not in one["properties"]


def test_documents_are_valid_by_the_published_schemas(run, item, vectors):
    schemas = published()
    documents = [item, *write_vectors_items(vectors, vectors.parent, model_item=item)]
    run.save(vectors.with_name("one.parquet"), lon=[1], lat=[2])
    documents += write_vectors_items(vectors.with_name("one.parquet"), vectors.parent / "stac")
    documents.append(write_model_item(graticule.load(), [], vectors.parent / "inside" / "item.json"))
    for path in documents:
        document = json.loads(path.read_text())
        assert faults(document, schemas) == []
        for part, name in REQUIRED:  # the check is a check
            inner = document.get(part, {}) if part else document
            if name in inner:
                kept = inner.pop(name)
                assert faults(document, schemas) != [], (part, name)
                inner[name] = kept


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("de", "graticule-de"),
        ("small[:64]", "small-64"),
        ("2024 run", "graticule-2024 run"),
        ("größe", "gr-e"),
        ("[]", "graticule-model"),
        ("a.b", "a.b"),
    ],
)
def test_names(name, plain):
    assert plain_name(name) == plain


def test_shapes_and_references(tmp_path):
    assert shape(1, 2, 3, 4)["coordinates"] == [[[1, 2], [3, 2], [3, 4], [1, 4], [1, 2]]]
    assert shape(170, 0, -170, 1)["coordinates"][1] == [[[-180, 0], [-170, 0], [-170, 1], [-180, 1], [-180, 0]]]
    assert relative(tmp_path / "a" / "b", tmp_path) == "./a/b"


def test_other_files_are_refused(run, vectors, item):
    folder = vectors.parent
    damaged = folder / "damaged.parquet"
    damaged.write_bytes(vectors.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"damaged\.parquet is no Parquet file, or damaged"):
        write_vectors_items(damaged, folder)
    pq.write_table(pa.table({"lon": [1.0]}), folder / "plain.parquet")
    with pytest.raises(DataError, match=r"plain\.parquet holds no vectors of Graticule"):
        write_vectors_items(folder / "plain.parquet", folder)
    pq.write_table(pq.read_table(vectors).drop("bbox"), folder / "bare.parquet")
    with pytest.raises(DataError, match="has no column `bbox`"):
        write_vectors_items(folder / "bare.parquet", folder)
    run.save(folder / "none.parquet", lon=[], lat=[])
    with pytest.raises(DataError, match=r"none\.parquet has no rows"):
        write_vectors_items(folder / "none.parquet", folder)
    other = json.loads(item.read_text())
    other["properties"]["graticule:weights"] = "other"
    item.write_text(json.dumps(other))
    with pytest.raises(DataError, match="is the item of a model with weights other, but"):
        write_vectors_items(vectors, folder, model_item=item)
