import json
import shutil

import duckdb
import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graticule
from graticule.bulk import embed_table
from graticule.embed import load
from graticule.errors import CacheError, CoordinateError, DataError, SettingError
from graticule.geo.coords import uniform_places
from graticule.geo.geoparquet import table_vectors, write_geoparquet
from graticule.runs import train
from tests.small_run import TRAINED, images, texts

DIM = 16
CITIES = "name,lon,lat,people\nMünchen,11.58,48.14,1500000\nSuva,178.44,-18.14,93000\nNome,-165.4,64.5,3700\n"


@pytest.fixture
def cities(tmp_path):
    path = tmp_path / "cities.csv"
    path.write_text(CITIES, encoding="utf-8")
    return path


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_coordinates_are_named(run):
    with pytest.raises(TypeError):
        run.embed([11.58], [48.14])
    assert run.embed(lon=[11.58], lat=[48.14]).shape == (1, DIM)
    assert run.embed(lon=11.58, lat=48.14).shape == (1, DIM)


def test_no_rows(run):
    for vectors in (
        run.embed(lon=[], lat=[]),
        run.embed_contents("text", []),
        run.embed_features("text", np.empty((0, 512))),
    ):
        assert vectors.shape == (0, DIM)
        assert vectors.dtype == np.float32


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 19), min_size=5, max_size=40), st.integers(1, 9))
def test_a_row_depends_on_nothing_but_itself(run, rows, batch_size):
    places = uniform_places(20, seed=9)
    alone = np.concatenate([run.embed_points(places[i : i + 1]) for i in range(20)])
    together = run.embed(lon=places[rows, 0], lat=places[rows, 1], batch_size=batch_size)
    close(together, alone[rows])


def test_places_differ_and_wrapped_places_do_not(run):
    vectors = run.embed(lon=[190, -170, 10, 370 - 360], lat=[5, 5, 5, 5])
    np.testing.assert_array_equal(vectors[0], vectors[1])
    np.testing.assert_array_equal(vectors[2], vectors[3])
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-3


def test_the_pole_and_the_seam_are_one_place(run):
    poles = run.embed(lon=[-180, -20, 77, 180], lat=[90, 90, 90, 90])
    close(poles, np.broadcast_to(poles[:1], poles.shape))
    close(*run.embed(lon=[-180, 180 - 1e-9], lat=[33, 33]))


@pytest.mark.parametrize(("modality", "contents"), [("text", texts()), ("image", list(images()))])
def test_contents_go_through_trunk_and_head(run, data, modality, contents):
    vectors = run.embed_contents(modality, contents)
    assert vectors.shape == (len(contents), DIM)
    assert np.isfinite(vectors).all()
    close(run.embed_contents(modality, contents[7:8]), vectors[7:8])
    close(run.embed_contents(modality, [contents[3], contents[1], contents[3]]), vectors[[3, 1, 3]])
    features = run.trunk(modality)(contents)
    np.testing.assert_array_equal(run.embed_features(modality, features, batch_size=60), vectors)


def test_unknown_modality_names_the_nearest(run):
    with pytest.raises(SettingError, match="Did you mean 'image'"):
        run.embed_contents("imgae", [])


def test_a_loaded_run_is_the_run(run):
    again = graticule.load(run.folder)
    places = uniform_places(30, seed=3)
    np.testing.assert_array_equal(again.embed_points(places), run.embed_points(places))
    assert (again.modalities, again.dim) == (["image", "text"], DIM)
    assert not any(p.requires_grad for p in again.location.parameters())


def copied(run, tmp_path):
    return shutil.copytree(run.folder, tmp_path / "copy")


def test_damaged_weights_are_refused_wherever_they_are_damaged(run, tmp_path):
    folder = copied(run, tmp_path)
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for place in np.linspace(0, len(whole) - 1, 25).astype(int):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(CacheError, match=r"model.safetensors"):
            load(folder)
    path.write_bytes(whole[:-100])
    with pytest.raises(CacheError, match=r"model.safetensors is missing or damaged"):
        load(folder)
    path.unlink()
    with pytest.raises(CacheError, match=r"model.safetensors is missing or damaged"):
        load(folder)


def test_damaged_description_is_refused(run, tmp_path):
    folder = copied(run, tmp_path)
    text = (folder / "run.json").read_text()
    (folder / "run.json").write_text(text.replace('"max_degree": 4', '"max_degree": 5'))
    with pytest.raises(CacheError, match=r"run.json is damaged"):
        load(folder)
    about = json.loads(text)
    del about["blake2b"]
    about["location"]["max_degree"] = 5
    (folder / "run.json").write_text(json.dumps(about))
    with pytest.raises(CacheError, match=r"model.safetensors does not fit .*run.json"):
        load(folder)
    (folder / "run.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(CacheError, match=r"format 99, this version reads 1"):
        load(folder)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(DataError, match="holds no trained run"):
        load(tmp_path / "nowhere")
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(DataError, match="unfinished one: run the same `train` again"):
        load(tmp_path)


def test_table_keeps_columns_order_and_rows(run, cities, tmp_path):
    out = tmp_path / "deep" / "out.parquet"
    assert embed_table(run, cities, out) == 3
    table = pq.read_table(out)
    assert table.column_names == ["name", "lon", "lat", "people", "geometry", "bbox", "embedding"]
    assert table["name"].to_pylist() == ["München", "Suva", "Nome"]
    assert table["people"].to_pylist() == [1500000, 93000, 3700]
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), DIM)
    vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, DIM)
    close(vectors, run.embed(lon=[11.58, 178.44, -165.4], lat=[48.14, -18.14, 64.5]))
    box = table["bbox"].to_pylist()[1]
    assert box == {"xmin": 178.44, "ymin": -18.14, "xmax": 178.44, "ymax": -18.14}


def test_metadata_is_geoparquet_and_says_who_made_the_vectors(run, cities, tmp_path):
    embed_table(run, cities, tmp_path / "out.parquet")
    metadata = pq.read_schema(tmp_path / "out.parquet").metadata
    geo, emb = json.loads(metadata[b"geo"]), json.loads(metadata[b"emb"])
    assert (geo["version"], geo["primary_column"]) == ("1.1.0", "geometry")
    column = geo["columns"]["geometry"]
    assert (column["encoding"], column["geometry_types"]) == ("WKB", ["Point"])
    corners = ("xmin", "ymin", "xmax", "ymax")
    assert column["covering"] == {"bbox": {corner: ["bbox", corner] for corner in corners}}
    assert "crs" not in column  # absent means OGC:CRS84, longitude first
    assert (emb["column"], emb["dimensions"], emb["quantization"]) == ("embedding", DIM, None)
    assert (emb["model"], emb["recipe"], emb["graticule"]) == ("small", "imagebind", graticule.__version__)
    assert emb["model_hash"] == run.about["weights"]
    assert emb["source"] == {"text": "licence of text", "image": "licence of image"}


def test_geopandas_and_duckdb_read_it(run, cities, tmp_path):
    out = tmp_path / "out.parquet"
    embed_table(run, cities, out)
    frame = geopandas.read_parquet(out)
    assert frame.crs.to_epsg() == 4326 or frame.crs.to_authority() == ("OGC", "CRS84")
    assert [(p.x, p.y) for p in frame.geometry] == [(11.58, 48.14), (178.44, -18.14), (-165.4, 64.5)]
    assert len(frame["embedding"][0]) == DIM
    assert len(geopandas.read_parquet(out, bbox=(170, -30, 180, 0))) == 1
    with duckdb.connect() as database:
        relation = database.sql(f"select name, geometry, embedding from '{out}'")
        assert str(relation.types[1]).startswith("GEOMETRY")
        assert relation.types[2].id in ("array", "list")
        assert [row[0] for row in relation.fetchall()] == ["München", "Suva", "Nome"]


def test_several_batches_are_one_file(run, tmp_path):
    places = uniform_places(40_000, seed=1)
    table = pa.table({"lon": places[:, 0], "lat": places[:, 1], "k": np.arange(len(places))})
    pq.write_table(table, tmp_path / "in.parquet")
    assert embed_table(run, tmp_path / "in.parquet", tmp_path / "out.parquet") == len(places)
    out = pq.read_table(tmp_path / "out.parquet")
    np.testing.assert_array_equal(out["k"].to_numpy(), np.arange(len(places)))
    last = out["embedding"][-1].as_py()
    close(last, run.embed_points(places[-1:])[0])


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_table_without_rows_gives_a_table_without_rows(form, run, tmp_path):
    path, out = tmp_path / f"empty.{form}", tmp_path / "out.parquet"
    if form == "csv":
        path.write_text("name,lon,lat\n")
    else:
        schema = pa.schema([("name", pa.string()), ("lon", pa.float64()), ("lat", pa.float64())])
        pq.write_table(schema.empty_table(), path)
    assert embed_table(run, path, out) == 0
    frame = geopandas.read_parquet(out)
    assert len(frame) == 0
    assert list(frame.columns) == ["name", "lon", "lat", "geometry", "embedding"]  # geopandas hides the covering
    assert pq.read_schema(out).field("embedding").type == pa.list_(pa.float32(), DIM)
    assert pq.read_schema(out).field("lon").type == (pa.string() if form == "csv" else pa.float64())


def test_an_own_geometry_is_read_and_kept_under_another_name(run, tmp_path):
    geopandas.GeoDataFrame({"k": [1, 2]}, geometry=geopandas.points_from_xy([5, 6], [7, 8]), crs=4326).to_parquet(
        tmp_path / "in.parquet"
    )
    embed_table(run, tmp_path / "in.parquet", tmp_path / "out.parquet")
    names = pq.read_schema(tmp_path / "out.parquet").names
    assert names == ["k", "geometry_input", "geometry", "bbox", "embedding"]
    assert [(p.x, p.y) for p in geopandas.read_parquet(tmp_path / "out.parquet").geometry] == [(5, 7), (6, 8)]


@pytest.mark.parametrize("header", ["lon,lat,embedding", "lon,lat,bbox", "lon,lat,geometry,geometry_input"])
def test_columns_that_the_output_needs_are_refused(header, run, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(f"{header}\n1,2,a{',b' * (header.count(',') - 2)}\n")
    with pytest.raises(DataError, match=rf"already has a column '{header.rpartition(',')[2]}'.*rename it"):
        embed_table(run, path, tmp_path / "out.parquet")
    assert not list(tmp_path.glob("*out*"))


def test_a_bad_row_at_the_end_leaves_no_file(run, tmp_path):
    places = uniform_places(20_000, seed=1)
    places[-1, 1] = 91
    pq.write_table(pa.table({"lon": places[:, 0], "lat": places[:, 1]}), tmp_path / "in.parquet")
    with pytest.raises(CoordinateError, match=r"in.parquet:19999 has .*lat=91"):
        embed_table(run, tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["in.parquet"]


def test_no_batches_at_all_is_an_error(tmp_path):
    with pytest.raises(DataError, match="the input has no rows"):
        write_geoparquet(tmp_path / "out.parquet", iter(()), about={})


def test_arrays_are_saved_with_their_columns(run, tmp_path):

    model = run
    assert model.save(tmp_path / "two.parquet", lon=[190.0, 11.5], lat=[0.0, 48.0], name=["sea", "Munich"]) == 2
    frame = geopandas.read_parquet(tmp_path / "two.parquet")
    assert list(frame["name"]) == ["sea", "Munich"]
    assert frame.geometry.x.tolist() == [-170.0, 11.5]
    assert np.allclose(np.stack(frame["embedding"]), model.embed(lon=[190.0, 11.5], lat=[0.0, 48.0]))


@pytest.fixture(scope="module")
def cut(data, tmp_path_factory):
    """A run whose vectors may be cut to 4 and to 8 numbers."""
    return train("melt", data, to=tmp_path_factory.mktemp("cut") / "cut", **TRAINED, prefixes="4,8")


def test_a_prefix_is_the_beginning_of_all_vectors(cut, cities, tmp_path):
    short = load(cut.folder).prefix(4)
    places = {"lon": [11.58, 178.44], "lat": [48.14, -18.14]}
    assert (cut.dim, short.dim) == (DIM, 4)
    assert short.about["name"] == "cut[:4]"
    assert np.array_equal(short.embed(**places), cut.embed(**places)[:, :4])
    assert np.array_equal(short.embed_contents("text", texts()[:3]), cut.embed_contents("text", texts()[:3])[:, :4])
    embed_table(short, cities, tmp_path / "out.parquet")
    schema = pq.read_schema(tmp_path / "out.parquet")
    assert schema.field("embedding").type == pa.list_(pa.float32(), 4)
    about = json.loads(schema.metadata[b"emb"])
    assert (about["model"], about["dimensions"]) == ("cut[:4]", 4)


def test_prefixes_of_prefixes_and_the_whole(cut):
    assert cut.prefix(DIM) is cut
    assert cut.prefix(8).prefix(4).about["name"] == "cut[:4]"
    with pytest.raises(SettingError, match=r"The 4 numbers of 'cut' were trained not to be cut, got dim=8"):
        cut.prefix(4).prefix(8)


def test_only_prefixes_that_the_run_was_trained_for(run, cut):
    with pytest.raises(SettingError, match=r"'small' were trained not to be cut, got dim=4.*prefixes"):
        run.prefix(4)
    for dim in (0, -1, 5, 17):
        with pytest.raises(SettingError, match=rf"trained to be cut to 4, 8, got dim={dim}"):
            cut.prefix(dim)


def test_int8_is_a_quarter_and_nearly_the_same(cut, tmp_path):
    places = uniform_places(500, seed=3)
    pq.write_table(pa.table({"lon": places[:, 0], "lat": places[:, 1]}), tmp_path / "in.parquet")
    embed_table(cut, tmp_path / "in.parquet", tmp_path / "out.parquet", numbers="int8")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("embedding").type == pa.list_(pa.int8(), DIM)
    kept, exact = table_vectors(table), cut.embed_points(places)
    assert kept.dtype == np.float32
    about = json.loads(table.schema.metadata[b"emb"])["quantization"]
    assert about["type"] == "int8"
    scale = np.array(about["scale"], dtype=np.float32)
    within = np.abs(exact) <= 127 * scale
    assert within.mean() > 0.999
    assert (np.abs(kept - exact) <= 0.501 * scale)[within].all()
    cosine = (kept * exact).sum(axis=1) / np.linalg.norm(kept, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosine.min() > 0.999
    by_hand = np.array(table["embedding"].to_pylist()) * scale
    np.testing.assert_allclose(by_hand, kept, rtol=1e-6)


def test_int8_of_few_places_has_the_scales_of_the_model(cut, tmp_path):
    assert cut.prefix(8).save(tmp_path / "one.parquet", lon=[1.0], lat=[2.0], int8=True) == 1
    cut.save(tmp_path / "two.parquet", lon=[1.0, 9.0], lat=[2.0, 5.0], int8=True)
    one, two = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("one", "two"))
    assert one["embedding"].to_pylist()[0] == two["embedding"].to_pylist()[0][:8]
    cut.save(tmp_path / "plain.parquet", lon=[1.0], lat=[2.0])
    close(table_vectors(pq.read_table(tmp_path / "plain.parquet")), cut.embed(lon=[1.0], lat=[2.0]))


def test_a_cut_and_int8_by_command(command, cut, cities, tmp_path):
    out = tmp_path / "out.parquet"
    code, said, _ = command("embed", "-q", cities, "-o", out, "--model", cut.folder, "--dim", 4, "--int8")
    assert (code, said) == (0, f"{out}: 3 rows\n")
    assert pq.read_schema(out).field("embedding").type == pa.list_(pa.int8(), 4)
    code, _, said = command("embed", "-q", cities, "-o", out, "--model", cut.folder, "--dim", 5)
    assert code == 1
    assert "got dim=5" in said


def test_bfloat16_is_nearly_the_same_also_in_files(run, cities, command, tmp_path):
    places = uniform_places(600, seed=4)
    lon, lat = places.T
    exact, rounded = run.embed(lon=lon, lat=lat), run.in_precision("bfloat16").embed(lon=lon, lat=lat)
    assert rounded.dtype == np.float32
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(rounded, axis=1)
    assert ((exact * rounded).sum(1) / lengths).min() > 0.9995  # a narrow network
    assert np.abs(exact - rounded).max() > 1e-4
    out = tmp_path / "out.parquet"
    code, *_ = command("embed", "-q", cities, "-o", out, "--model", run.folder, "--precision", "bfloat16")
    assert code == 0
    found = np.array(pq.read_table(out)["embedding"].to_pylist(), dtype=np.float32)
    table = pq.read_table(out, columns=["lon", "lat"])
    expected = run.in_precision("bfloat16").embed(lon=table["lon"].to_numpy(), lat=table["lat"].to_numpy())
    np.testing.assert_allclose(found, expected, atol=1e-2)
    run.in_precision("bfloat16").save(out, lon=lon, lat=lat)
    np.testing.assert_array_equal(np.array(pq.read_table(out)["embedding"].to_pylist(), dtype=np.float32), rounded)


def test_a_raster_comes_in_bands(cut):
    lon, lat = np.linspace(-180, 180, 40), np.array([90.0, 33.0, -90.0])
    bands = list(cut.prefix(8).embed_grid(lon=lon, lat=lat))
    across, down = np.meshgrid(lon, lat)
    whole = cut.prefix(8).embed(lon=across, lat=down)
    close(np.concatenate(bands).reshape(-1, 8), whole)
    close(np.concatenate(list(cut.embed_grid(lon=lon, lat=lat))).reshape(-1, DIM)[:, :8], whole)
    assert list(cut.embed_grid(lon=lon, lat=[])) == []
    assert next(cut.embed_grid(lon=[], lat=lat)).shape == (3, 0, DIM)
    with pytest.raises(CoordinateError, match=r"row 1 has lat=91"):
        cut.embed_grid(lon=lon, lat=[3, 91])
    with pytest.raises(CoordinateError, match=r"column 0 has lon=400"):
        cut.embed_grid(lon=[400], lat=[3])


def test_unknown_precision_is_refused(run):
    with pytest.raises(SettingError, match="Did you mean 'float32'"):
        run.in_precision("float3")
