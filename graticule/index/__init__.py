"""Nearest among millions: vectors in a graph of neighbours on disk, mapped into memory when it is asked."""

from graticule.index.build import VectorRows as VectorRows
from graticule.index.build import array_rows as array_rows
from graticule.index.build import build_index as build_index
from graticule.index.build import table_rows as table_rows
from graticule.index.search import PlaceIndex as PlaceIndex
from graticule.index.search import open_index as open_index
