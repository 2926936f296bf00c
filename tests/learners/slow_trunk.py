"""A trunk that takes its time and writes down what it is asked; run as a script it is there to be killed."""

import sys
import time
from pathlib import Path

import numpy as np

from graticule.data.store import open_dataset
from graticule.learners.features import cached_features


class SlowTrunk:
    kind = "text"

    def __init__(self, diary, seconds=0.0, version=1):
        self.diary, self.seconds, self.version = Path(diary), seconds, version

    def identity(self):
        return {"name": "slow", "version": self.version}

    def __call__(self, contents):
        with self.diary.open("a") as file:
            file.write(f"{contents[0]}\n")
        time.sleep(self.seconds)
        return np.array([[len(text), hash_of(text), self.version] for text in contents], np.float32)


def hash_of(text):
    return sum(i * ord(letter) for i, letter in enumerate(text)) % 1000


if __name__ == "__main__":
    cached_features(open_dataset(sys.argv[1])["text"], SlowTrunk(sys.argv[2], seconds=0.1))
