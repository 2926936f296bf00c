"""The tables of `benchmarks.against_interpolation`: task by task against the best of the others, and curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.running import markdown
from graticule.errors import need
from graticule.evaluation.outcomes import Outcome
from graticule.evaluation.report import Report
from graticule.evaluation.uncertainty import Blocks, Floats, interval, paired_test, resampling_blocks, score_draws

OURS, GEOCLIP, BESIDE = "the model inside", "GeoCLIP", "GeoCLIP + harmonics L=10"
OTHER_SEEDS = {1: "seed 1", 2: "seed 2"}
WITH_PLACE, PLACE = "the model inside, coordinates beside it", "x, y, z by the chosen probe"
COUNTED = (OURS, *OTHER_SEEDS.values(), WITH_PLACE, PLACE)
RIVALS = ("kNN-5", "IDW-20", "kriging", "harmonics L=10", "harmonics L=20", GEOCLIP, BESIDE)
SINGLE = ("ridge", "knn")  # probes whose answers are told apart from those of boosting
SHOTS = (10, 30, 100, 300, 1000)
CURVES = {"few-shot": "Few labels, spread", "few-shot clustered": "Few labels, in three places"}
MOST_BEHIND = 0.02
BEST, WITHIN, BEHIND = "best", "within noise", "behind"


@dataclass(frozen=True)
class Duel:
    """A row against the best of the others on one task: scores, interval of their difference, verdict over all rows."""

    task: str
    score: float
    rival: str
    best: float
    low: float
    high: float
    over_rows: str

    @property
    def difference(self) -> float:
        """In R2 or accuracy, positive where the row is better."""
        return self.score - self.best

    @property
    def verdict(self) -> str:
        """Best; within noise: the interval holds 0 and at most MOST_BEHIND is missing; or behind."""
        return judged(self.difference, self.low, self.high)


def judged(difference: float, low: float, high: float) -> str:
    """The words of the target."""
    if difference >= 0:
        return BEST
    return WITHIN if low <= 0 <= high and difference >= -MOST_BEHIND else BEHIND


NOTE = f"""# The model inside against interpolation and GeoCLIP, with the probe chosen on training rows

`python -m benchmarks.against_interpolation DATA RUNS`

The 16 main tasks, at most 6,000 rows each; random: folds 0-5 train, 6-9 test; blocks: mean over five folds of
10-degree cells; R2 clipped at 0, accuracy. The model inside (256 dimensions), GeoCLIP's released weights (512), and
those with the 100 spherical harmonics of degree 0 to 9 beside them are read by the probe `chosen`: ridge, kNN
(cosine) or gradient boosting (32 principal axes), whichever has the highest mean score in three folds of the training
rows. kNN-5, IDW-20, kriging and ridge on harmonics read the coordinates. Best of the others: the highest score on the
test rows among these seven. Interval: paired bootstrap of the difference, 1,000 draws of blocks of 2,000 km (smaller
for local tasks), the fitted probes stay. Within noise: the interval holds 0 and at most {MOST_BEHIND} is missing. No
label of these tasks was used in pretraining or to choose the model; night lights and bathymetry, which the model saw,
give away mosaiks_nightlights, mosaiks_population and ocean_depth.
"""
LABELS = f"""Training rows of the random folds, drawn five times; mean over the tasks, R2 of each draw clipped at
0, ± the 95 % interval of the mean of the five draws (Student's t; for differences, of the paired
ones). word_order has 817 training rows and no point at {SHOTS[-1]}.
"""


def written(report: Report) -> str:
    """The whole text, of what is there so far."""
    text = [NOTE, "## How many of the tasks\n", counts(report)]
    if missing := [name for name in (*RIVALS, *COUNTED) if name not in report.names]:
        text.insert(1, f"**Not finished: without {', '.join(missing)}.**\n")
    for split in shown(report):
        text += [f"## {split.capitalize()}, task by task\n", table(duels(report, OURS, split))]
        text += [f"## {split.capitalize()}, all rows\n", scores(report, split)]
        if f"{OURS} ({SINGLE[-1]})" in report.names:
            text += [f"## {split.capitalize()}, what was chosen, in folds\n", choices(report, split)]
    for curve, title in CURVES.items():
        if f"{curve} {SHOTS[-1]}" in report.splits:
            text += [f"## {title}\n", LABELS, curves(report, curve)]
    return "\n".join(text)


def shown(report: Report) -> list[str]:
    """Splits under which the model inside and all others were asked."""
    return [s for s in ("random", "blocks") if s in report.splits and report.tasks_of(OURS, s)]


def duels(report: Report, row: str, split: str) -> list[Duel]:
    """Of all tasks, in their order."""
    return [duel(report, row, split, task) for task in report.tasks_of(row, split)]


def rivals(report: Report, split: str, task: str) -> list[str]:
    """Those of RIVALS that were asked: all, when the benchmark is finished."""
    return [name for name in RIVALS if name in report.names and task in report.tasks_of(name, split)]


def duel(report: Report, row: str, split: str, task: str) -> Duel:
    """Against the rival of the highest score; blocks of places are drawn alike for both, the fitted probes stay."""
    rival = max(rivals(report, split, task), key=lambda name: report.score(name, task, split))
    mine, theirs = (report.outcome(name, task, split) for name in (row, rival))
    block, classes = resampling_blocks(mine.task.points)[mine.answers.row], len(mine.task.classes)
    low, high = interval(draws(mine, block) - draws(theirs, block))
    pooled = paired_test(mine.truth, mine.clipped, theirs.clipped, block, classes)
    over_rows = judged(pooled.difference, pooled.low, pooled.high)
    return Duel(task, mine.score, rival, theirs.score, low, high, over_rows)


def draws(outcome: Outcome, block: Blocks) -> Floats:
    """Bootstrap values of the score, clipped at 0 as it is."""
    said, classes = outcome.answers, len(outcome.task.classes)
    return np.maximum(score_draws(outcome.truth, said.predicted, said.fold, block, classes), 0)


def counts(report: Report) -> str:
    """How many tasks are best, within noise and behind; and by the difference over the rows of all folds at once."""
    body = []
    for row in (row for row in COUNTED if row in report.names):
        for split in (split for split in shown(report) if report.tasks_of(row, split)):
            fought = duels(report, row, split)
            told, over_rows = (
                Counter(words) for words in zip(*((d.verdict, d.over_rows) for d in fought), strict=True)
            )
            sums = [f"{found[BEST] + found[WITHIN]} of {len(fought)}" for found in (told, over_rows)]
            body.append([row, split, *(str(told[word]) for word in (BEST, WITHIN, BEHIND)), *sums])
    return markdown(["", "", BEST, WITHIN, BEHIND, "best or within noise", "the same over all rows at once"], body)


def table(fought: Sequence[Duel]) -> str:
    """A line a task."""
    header = ["", OURS, "best of the others", "", "difference", "95 %", ""]
    body = [
        [d.task, f"{d.score:.3f}", d.rival, f"{d.best:.3f}", f"{d.difference:+.3f}", f"[{d.low:+.3f}, {d.high:+.3f}]",
         d.verdict] for d in fought
    ]  # fmt: skip
    return markdown(header, body)


def scores(report: Report, split: str) -> str:
    """A line a task, a column a row of the benchmark."""
    rows, tasks = [row for row in report.names if report.tasks_of(row, split)], report.tasks_of(OURS, split)
    body = [[task, *(f"{report.score(row, task, split):.3f}" for row in rows)] for task in tasks]
    means = [f"{np.mean([report.score(row, task, split) for task in tasks]):.3f}" for row in rows]
    return markdown(["", *rows], [*body, ["mean", *means]])


def choices(report: Report, split: str) -> str:
    """In how many folds the answers of `chosen` are those of ridge and kNN; in the others they are boosting's."""
    return markdown(["", OURS], [[task, choice(report, OURS, split, task)] for task in report.tasks_of(OURS, split)])


def choice(report: Report, row: str, split: str, task: str) -> str:
    """Such as "ridge 3, boosting 2"."""
    said = report.outcome(row, task, split).answers
    alone = {probe: report.outcome(f"{row} ({probe})", task, split).answers.predicted for probe in SINGLE}
    told: Counter[str] = Counter()
    for fold in np.unique(said.fold):
        rows = said.fold == fold
        same = (probe for probe, answers in alone.items() if np.array_equal(said.predicted[rows], answers[rows]))
        told[next(same, "boosting")] += 1
    return ", ".join(f"{probe} {folds}" for probe, folds in told.most_common())


def curves(report: Report, curve: str) -> str:
    """A line a row, a column a number of labels; then how far ours is above the best of the others."""
    splits = [f"{curve} {shots}" for shots in SHOTS]
    rows = [row for row in report.names if report.tasks_of(row, splits[0])]
    means = {(row, split): by_draw(report, row, split) for row in rows for split in splits}
    body = [[row, *(f"{means[row, s].mean():.3f} ± {half_width(means[row, s]):.3f}" for s in splits)] for row in rows]
    others = [row for row in rows if not row.startswith(OURS)]
    for mine in (row for row in rows if row not in others):
        ahead = []
        for split in splits:
            mean, best = max((means[row, split].mean(), row) for row in others)
            gain = means[mine, split] - means[best, split]
            ahead.append(f"{gain.mean():+.3f} ± {half_width(gain):.3f} ({best}, {mean:.3f})")
        body.append([f"{mine} minus the best other", *ahead])
    body.append(["tasks", *(str(len(report.tasks_of(others[0], split))) for split in splits)])
    return markdown(["labels", *map(str, SHOTS)], body)


def by_draw(report: Report, row: str, split: str) -> Floats:
    """(draws,) means over the tasks, R2 of each draw clipped at 0."""
    scores = [report.outcome(row, task, split).fold_scores for task in report.tasks_of(row, split)]
    return np.asarray(np.maximum(scores, 0).mean(0))


def half_width(values: Floats) -> float:
    """Of the 95 % interval of the mean of some draws, by Student's t."""
    quantile = need("scipy.stats", "train").t.ppf(0.975, len(values) - 1)
    return float(quantile * values.std(ddof=1) / len(values) ** 0.5)
