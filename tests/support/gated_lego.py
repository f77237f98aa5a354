"""LEGO that waits: each skill is read when the file `open` lies in the folder GATE; before, it says where it waits."""

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path

from skillit_stream.convert.corpora import lego
from skillit_stream.convert.corpus import Document, Tap
from skillit_stream.convert.inputs import InputFile

HELP = 'LEGO behind a gate'
DEADLINE = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--gate', required=True)
    lego.add_arguments(parser)


def corpus(args: argparse.Namespace) -> lego.Lego:
    made = lego.corpus(args)
    return GatedLego(args, made.skills, made.companions()['graph.json']['weights'], made.options())


class GatedLego(lego.Lego):
    def read(self, file: InputFile, tap: Tap) -> Iterator[Document]:
        import ray

        gate = Path(self.args.gate)
        node = ray.get_runtime_context().get_node_id()
        for number, document in enumerate(super().read(file, tap)):
            if number == 100:  # some shards' worth is on its way
                (gate / f'{file.name}.{node}.{os.getpid()}').touch()
                until = time.monotonic() + DEADLINE
                while not (gate / 'open').exists():
                    assert time.monotonic() < until, 'the gate stays closed'
                    time.sleep(0.05)
            yield document
