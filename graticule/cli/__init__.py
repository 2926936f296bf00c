"""The command line: one verb for each arrow of the flow. Every command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from graticule import __version__
from graticule.cli import embed, export, osm
from graticule.errors import GraticuleError, SettingError, need

if TYPE_CHECKING:
    from graticule.embed import Model
    from graticule.index import PlaceIndex


def parser() -> argparse.ArgumentParser:
    """All verbs and their options."""
    top = argparse.ArgumentParser(prog="graticule", description="Features for places: coordinates in, vectors out.")
    top.add_argument("--version", action="version", version=f"graticule {__version__}")
    volume = argparse.ArgumentParser(add_help=False)
    volume.add_argument("-v", "--verbose", action="store_true", help="say more")
    volume.add_argument("-q", "--quiet", action="store_true", help="only warnings and results")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", parents=[volume])

    one = verb("quickstart", "run the whole main job on images and names that pip has brought")
    one.add_argument(
        "-o", "--out", type=Path, default=Path("quickstart"), help="folder for everything (default: quickstart)"
    )

    one = verb("prepare", "read raw data into tables with manifests")
    one.add_argument(
        "sources", nargs="+", metavar="NAME=PATH", help="modality and where it is: text=dump.xml.bz2 image=patches/"
    )
    one.add_argument("--to", type=Path, required=True, help="folder for the tables")
    one.add_argument(
        "--set", nargs="+", default=[], metavar="NAME.OPTION=VALUE", help="options of a reader: image.crop=64"
    )

    one = verb("train", "train a recipe on prepared data")
    one.add_argument(
        "recipe",
        help="imagebind, cyclic, melt, all-to-all, satclip, geoclip or csp; for maps geojepa or geojepa-paper",
    )
    one.add_argument("data", type=Path, help="folder of prepared data")
    one.add_argument("--to", type=Path, required=True, help="folder for the run")
    one.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="fields of graticule.settings.Settings: steps=3000"
    )
    one.add_argument(
        "--processes", type=int, default=1,
        help="so many on this machine learn from each batch together (several machines: torchrun -m graticule train)",
    )  # fmt: skip

    embed.arguments(verb("embed", "turn a table of coordinates, or a raster, into a file of vectors"))

    one = verb("index", "put a GeoParquet of vectors into an index that finds the nearest among millions")
    one.add_argument("table", type=Path, help="file of `graticule embed`, or a folder of such files")
    one.add_argument("-o", "--out", type=Path, required=True, help="folder for the index")
    one.add_argument("--connectivity", type=int, help="edges of a row in the graph (default: 16)")
    one.add_argument("--expansion", type=int, help="rows looked at to find them (default: 128)")

    export.arguments(verb("export", "write a model as ONNX or program of torch, or STAC items of models and vectors"))

    one = verb("nearest", "find the places or rows most similar to a place, a text or a picture")
    one.add_argument(
        "run",
        nargs="?",
        type=Path,
        help="folder of a run or of `graticule osm` (default: the model inside the package)",
    )
    one.add_argument("--lon", type=float, help="longitude of the place asked for, degrees")
    one.add_argument("--lat", type=float, help="latitude of the place asked for, degrees")
    one.add_argument("--text", help="a text as the question")
    one.add_argument("--image", type=Path, help="a picture or raster patch as the question")
    one.add_argument("--answer", default="place", metavar="MODALITY", help="place (default) or a modality of the run")
    one.add_argument(
        "--places", type=Path, help="table of places to answer with (default: an even lattice of the Earth)"
    )
    one.add_argument("--index", type=Path, metavar="FOLDER", help="answer from an index of `graticule index`")
    one.add_argument("-k", type=int, default=5, help="number of answers (default: 5)")
    one.add_argument("--apart-km", type=float, default=0.0, help="least distance between answers, and from the place")
    one.add_argument("--like", metavar="ID", help="of a folder of `graticule osm`: a region or an entity, as way/123")
    one.add_argument("--among", type=Path, metavar="FOLDER", help="with --like: another such folder to answer from")

    osm.arguments(verb("osm", "turn an extract of OpenStreetMap into vectors of its regions and entities"))

    one = verb("evaluate", "score embeddings on tasks, beside the baselines")
    one.add_argument(
        "runs", nargs="*", metavar="RUN",
        help="folders of runs, published encoders as geoclip:CHECKPOINT, or the frozen features of pictures as"
        " explicit:WORLD.tif (default: the model inside)",
    )  # fmt: skip
    one.add_argument(
        "--tasks",
        help="FOLDER of NAME.parquet + NAME.json, FOLDER:NAME,NAME, or NAME,NAME of those inside (default: all inside)",
    )
    one.add_argument(
        "--split", default="random,blocks",
        help="of random, blocks, cells, continents, countries, checker, given, few-shot, 'few-shot clustered'"
        " (default: random,blocks)",
    )  # fmt: skip
    one.add_argument(
        "--probe", default="ridge",
        help="ridge, logistic, knn, boosting, chosen, mlp, kriged, gp; +place: also the coordinates (default: ridge)",
    )  # fmt: skip
    one.add_argument(
        "-o", "--out", type=Path,
        help="folder for report.html, scores.parquet, scores.json, study.json, table.md, and answers to go on from",
    )  # fmt: skip
    one.add_argument("--workers", type=int, help="processes side by side (default: one a core)")

    one = verb("heatmap", "draw how similar every place is to a text, a picture or a place as one offline page")
    one.add_argument("run", nargs="?", type=Path, help="folder of a run (default: the model inside the package)")
    one.add_argument("--text", action="append", default=[], help="a text to ask for; may be given again")
    one.add_argument(
        "--image", action="append", default=[], type=Path, help="a picture or raster patch; may be given again"
    )
    one.add_argument("--lon", type=float, help="longitude of a place to ask for, degrees")
    one.add_argument("--lat", type=float, help="latitude of the place, degrees")
    one.add_argument("-o", "--out", type=Path, default=Path("heatmap.html"), help="page (default: heatmap.html)")

    one = verb("map", "draw a run's vectors over the world as one offline page")
    one.add_argument("run", nargs="?", type=Path, help="folder of a run (default: the model inside the package)")
    one.add_argument("-o", "--out", type=Path, default=Path("map.html"), help="page to write (default: map.html)")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0 done, 1 an error of the data or settings, 2 wrong usage."""
    asked = parser().parse_args(arguments)
    level = logging.DEBUG if asked.verbose else logging.WARNING if asked.quiet else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    for noisy in ("rasterio", "urllib3", "pystac_client", "PIL", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return COMMANDS[asked.verb](asked)
    except GraticuleError as error:
        sys.stderr.write(f"graticule {asked.verb}: {error}\n")
        return 1
    except FileNotFoundError as error:
        sys.stderr.write(f"graticule {asked.verb}: {error.filename or error} does not exist.\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"graticule {asked.verb}: {error}.\n")
        return 1


def say(text: object) -> None:
    """A result, on standard output."""
    sys.stdout.write(f"{text}\n")


def pairs(items: list[str]) -> dict[str, str]:
    """KEY=VALUE texts as a dictionary."""
    for item in items:
        if "=" not in item:
            raise SettingError(f"Expected KEY=VALUE, got {item!r}.")
    return dict(item.split("=", 1) for item in items)


def _prepare(asked: argparse.Namespace) -> int:
    from graticule import read
    from graticule.data.store import prepare
    from graticule.settings import literal

    options: dict[str, dict[str, object]] = {}
    for key, value in pairs(asked.set).items():
        name, _, option = key.partition(".")
        options.setdefault(name, {})[option] = literal(value)
    named = pairs(asked.sources)
    if len(named) < len(asked.sources):
        raise SettingError("Each modality is given once; several files of one kind are NAME=PATH,PATH.")
    if stray := set(options) - set(named):
        raise SettingError(f"--set {sorted(stray)[0]}....: no such modality; given are {', '.join(named)}.")
    say(prepare({name: read.source(path, **options.get(name, {})) for name, path in named.items()}, to=asked.to))
    return 0


def _train(asked: argparse.Namespace) -> int:
    need("torch", "train")
    settings = pairs(asked.set)
    if asked.processes != 1:
        from graticule.training.launch import launch

        volume = ["-v"] * asked.verbose + ["-q"] * asked.quiet
        job = ["train", asked.recipe, str(asked.data), "--to", str(asked.to), *volume]
        return launch([*job, "--set", *asked.set] if asked.set else job, asked.processes)
    from graticule.runs import train

    model = train(asked.recipe, asked.data, to=asked.to, **settings)
    if os.environ.get("RANK", "0") == "0":  # of several processes the first one speaks
        say(f"{model.folder}: {asked.recipe}, {model.dim}-d, trained in {model.about['seconds']:.0f} s")
    return 0


def _model(run: Path | None) -> Model:
    from graticule.embed import load

    return load(run)


def _index(asked: argparse.Namespace) -> int:
    from graticule.index import build_index, table_rows

    given = {"connectivity": asked.connectivity, "expansion": asked.expansion}
    rows = table_rows(asked.table)
    build_index(rows, asked.out, **{name: value for name, value in given.items() if value is not None})
    say(f"{asked.out}: {rows.count:,} rows")
    return 0


def _nearest(asked: argparse.Namespace) -> int:
    from graticule.cli.picture import read_picture
    from graticule.geo.coords import lonlat
    from graticule.nearest import gallery, nearest, question

    if osm.is_map(asked):
        say("\n".join(osm.alike(asked)))
        return 0
    model = _model(asked.run)
    index = None if asked.index is None else _opened(asked)
    if index is not None:
        model = index.fitting(model)
    image = None if asked.image is None else read_picture(model, asked.image)
    space = "shared" if index is None else index.space
    vector = question(model, lon=asked.lon, lat=asked.lat, text=asked.text, image=image, space=space)
    place = None if asked.lon is None else lonlat(lon=[asked.lon], lat=[asked.lat])
    if index is not None:
        answers = index.nearest(vector, asked.k, place=place, apart_km=asked.apart_km)
    else:
        among = gallery(model, asked.answer, table=asked.places)
        answers = nearest(vector, among, asked.k, place=place, apart_km=asked.apart_km)
    for found in answers:
        away = "" if found.distance_km is None else f"  {found.distance_km:8,.0f} km"
        say(f"{found.similarity:6.3f}  {found.lat:8.3f} {found.lon:9.3f}{away}  {found.name}")
    return 0


def _opened(asked: argparse.Namespace) -> PlaceIndex:
    from graticule.index import open_index

    if asked.answer != "place":
        raise SettingError(f"An index answers with places: leave --answer out, got {asked.answer!r}.")
    return open_index(asked.index, table=asked.places)


def _evaluate(asked: argparse.Namespace) -> int:
    from graticule.evaluation.runs import embeds, evaluate

    if asked.out is not None:
        need("matplotlib", "viz")  # before an hour of work, not after it
    report = evaluate(
        asked.runs or None,
        tasks=asked.tasks,
        split=tuple(asked.split.split(",")),
        probes=tuple(asked.probe.split(",")),
        cache=asked.out and asked.out / "answers",
        workers=asked.workers or os.cpu_count() or 1,
    )
    if asked.out is not None:
        from graticule.web.examination import write_examination

        page = write_examination(report, embeds(asked.runs or None), asked.out)
        sys.stderr.write(f"The report, to open in a browser: {page}\n")
    say(report)
    return 0


def _map(asked: argparse.Namespace) -> int:
    from graticule.web.show import model_map

    say(model_map(_model(asked.run), asked.out))
    return 0


def _heatmap(asked: argparse.Namespace) -> int:
    from graticule.cli.picture import read_picture
    from graticule.nearest import question
    from graticule.web.show import model_map

    model = _model(asked.run)
    questions = {text: question(model, text=text) for text in asked.text}
    questions |= {str(path): question(model, image=read_picture(model, path)) for path in asked.image}
    if asked.lon is not None or asked.lat is not None:
        vector = question(model, lon=asked.lon, lat=asked.lat)
        questions[f"latitude {asked.lat:g}, longitude {asked.lon:g}"] = vector
    if not questions:
        raise SettingError("Ask for something: --text, --image, or --lon and --lat together.")
    say(model_map(model, asked.out, questions))
    return 0


def _quickstart(asked: argparse.Namespace) -> int:
    need("torch", "quickstart")
    from graticule.cli.quickstart import quickstart

    return quickstart(asked.out)


COMMANDS = {
    "embed": embed.run,
    "evaluate": _evaluate,
    "export": export.run,
    "heatmap": _heatmap,
    "index": _index,
    "map": _map,
    "nearest": _nearest,
    "osm": osm.run,
    "prepare": _prepare,
    "quickstart": _quickstart,
    "train": _train,
}
