"""Vectors of very many places: tables as shards of GeoParquet, by several processes or a cluster."""

from __future__ import annotations

from graticule.bulk.job import Job, Shard
from graticule.bulk.shard import write_shard
from graticule.bulk.table import embed_table

__all__ = ["Job", "Shard", "embed_table", "write_shard"]
