"""The same shards by Ray Data, on a cluster of this machine."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graticule.bulk import cluster, embed_table
from graticule.errors import CacheError, MissingExtra
from graticule.geo.coords import uniform_places


@pytest.fixture
def source(tmp_path):
    places = uniform_places(900, seed=2)
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"lon": places[:, 0], "lat": places[:, 1]}), path, row_group_size=100)
    return path


def digests(folder):
    return [(s["file"], s["rows"], s["vectors"]) for s in json.loads((folder / "_manifest.json").read_text())["shards"]]


@pytest.mark.filterwarnings("ignore")  # of Ray's own
def test_the_same_shards_by_two_workers_of_a_local_cluster(loaded, source, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed (graticule[scale])")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else a busy machine leaves its workers waiting
    embed_table(loaded, source, tmp_path / "pool", shard_rows=300, numbers="int8")
    ray.init(num_cpus=2, object_store_memory=100 << 20, include_dashboard=False, log_to_driver=False)
    try:
        given = {"shard_rows": 300, "numbers": "int8", "workers": 2, "ray": "local"}
        assert embed_table(loaded, source, tmp_path / "ray", **given) == 900
        assert digests(tmp_path / "ray") == digests(tmp_path / "pool")
        for number in range(3):
            ours, theirs = (tmp_path / name / f"part-0000{number}.parquet" for name in ("pool", "ray"))
            assert ours.read_bytes() == theirs.read_bytes()  # fixed-size lists, geo and emb metadata and all
        (tmp_path / "ray" / "part-00001.parquet").unlink()
        monkeypatch.setattr("graticule.bulk.table.whole", lambda job: retrained(job))
        with pytest.raises(CacheError, match="not the model this job began with"):
            embed_table(loaded, source, tmp_path / "ray", **given)
    finally:
        ray.shutdown()


def retrained(job):
    """The job with a shard to write by a model of another hash."""
    job.done.pop("part-00001.parquet")
    job.asked["model_hash"] = "0" * 32
    return job


def test_without_ray_the_pip_line_is_said(loaded, source, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'graticule\[scale\]'"):
        next(cluster.on_cluster(job(tmp_path), [], 1, "local"))


def job(folder):
    return cluster.Job(folder, {}, {}, None)
