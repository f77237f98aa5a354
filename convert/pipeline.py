"""All parts in a row: documents -> token ids -> splits -> samples -> a finished streams folder."""

import argparse
import os
from collections.abc import Iterable, Mapping
from typing import Any

from skillit_stream.convert.faults import Faults
from skillit_stream.convert.options import ConvertOptions, options_of
from skillit_stream.convert.overlap import drop_shared_samples
from skillit_stream.convert.packing import Packer
from skillit_stream.convert.progress import bytes_bar
from skillit_stream.convert.readers import find_inputs
from skillit_stream.convert.rows import Document, RowReader, SkillOf
from skillit_stream.convert.splits import EncodedDocument, SkillSplitter, document_hash
from skillit_stream.convert.staging import TOKENIZER_FOLDER, staged_folder
from skillit_stream.convert.tokens import DocumentTokenizer, batches, load_tokenizer
from skillit_stream.convert.writer import StreamsWriter, token_columns
from skillit_stream.errors import InputError
from skillit_stream.streams.manifest import SPLITS, Manifest, SkillInfo, SourceInfo, SplitInfo


def convert_rows(
    args: argparse.Namespace, *, skill_of: SkillOf, corpus: Mapping[str, Any], text_field: str = 'text'
) -> Manifest:
    """Convert JSON rows into a streams folder.

    Args:
        args: The command line: ``paths`` and the options of
            :func:`~skillit_stream.convert.options.add_corpus_arguments`.
        skill_of: Tells a row's skill.
        corpus: The corpus' name and own options, for the manifest.
        text_field: Field of a row with its text.

    Raises:
        InputError: Something is wrong with the options or the rows; no folder is left behind.
    """
    options = options_of(args)
    inputs = find_inputs(args.paths)
    faults = Faults(args.bad_records)
    total = sum(os.path.getsize(file.path) for file in inputs)
    with staged_folder(options.out, overwrite=options.overwrite) as folder:
        tokenizer = load_tokenizer(options.tokenizer)
        with bytes_bar('converting', total) as advance:
            reader = RowReader(
                inputs, skill_of=skill_of, text_field=text_field, faults=faults, on_bytes=advance
            )
            written, dropped = write_documents(reader, folder, tokenizer=tokenizer, options=options)
        if not written:
            raise InputError(
                f'{", ".join(args.paths)}: no documents in {len(inputs)} file(s); check the PATH'
            )
        manifest = Manifest(
            tokenizer_name=tokenizer.name,
            tokenizer_hash=tokenizer.save(os.path.join(folder, TOKENIZER_FOLDER)),
            vocab_size=tokenizer.vocab_size,
            seq_len=options.seq_len,
            dtype=tokenizer.dtype.__name__,
            columns=token_columns(tokenizer.dtype, options.seq_len),
            skills=_skills(written, dropped, reader),
            dropped=_unplaced(faults, written),
            corpus={**corpus, 'eval_fraction': options.eval_fraction, 'bad_records': faults.policy},
        )
        manifest.save(folder)
    return manifest


def write_documents(
    documents: Iterable[Document], folder: str, *, tokenizer: DocumentTokenizer, options: ConvertOptions
) -> tuple[dict[str, dict[str, SplitInfo]], dict[str, dict[str, int]]]:
    """Encode, split, pack and write documents.

    Returns:
        What was written (skill -> split -> contents) and what was not (skill -> reason -> count).

    Raises:
        InputError: A skill is too small for one sample of each split.
    """
    writer = StreamsWriter(
        folder, seq_len=options.seq_len, dtype=tokenizer.dtype, shard_size=options.shard_size
    )
    skills: dict[str, SkillSink] = {}
    try:
        for batch in batches(documents):
            for document, tokens in zip(batch, tokenizer.encode([d.text for d in batch]), strict=True):
                sink = skills.get(document.skill)
                if sink is None:
                    sink = skills[document.skill] = SkillSink(document.skill, writer, options)
                text = document.text.encode()
                sink.splitter.add(EncodedDocument(document_hash(text), tokens, len(text)))
        for sink in skills.values():
            sink.splitter.finish()
        written = writer.finish()
    except BaseException:
        writer.abort()
        raise
    dropped: dict[str, dict[str, int]] = {}
    for skill, sink in skills.items():
        written[skill], shared = drop_shared_samples(writer, skill, written[skill])
        dropped[skill] = {'tail_tokens': sink.tail_tokens, 'eval_samples_in_train': shared}
    return written, dropped


class SkillSink:
    """Where the documents of one skill go: its splitter, and a packer for each split."""

    def __init__(self, skill: str, writer: StreamsWriter, options: ConvertOptions) -> None:
        self._skill = skill
        self._writer = writer
        self._packers = {split: Packer(options.seq_len, writer.dtype.type) for split in SPLITS}
        self.splitter = SkillSplitter(
            skill, eval_fraction=options.eval_fraction, seq_len=options.seq_len, emit=self._write
        )

    @property
    def tail_tokens(self) -> int:
        """Tokens, train and eval together, that fill no sample."""
        return sum(packer.tail_tokens for packer in self._packers.values())

    def _write(self, split: str, document: EncodedDocument) -> None:
        self._writer.count_document(self._skill, split, document.bytes)
        for sample in self._packers[split].add(document.tokens):
            self._writer.write(self._skill, split, sample)


def _skills(
    written: dict[str, dict[str, SplitInfo]], dropped: dict[str, dict[str, int]], reader: RowReader
) -> dict[str, SkillInfo]:
    sources: dict[str, list[SourceInfo]] = reader.sources
    return {
        skill: SkillInfo(
            splits=splits,
            sources=tuple(sources.get(skill, ())),
            dropped={**dropped[skill], **dict(sorted(reader.faults.counts[skill].items()))},
        )
        for skill, splits in written.items()
    }


def _unplaced(faults: Faults, written: Mapping[str, Any]) -> dict[str, int]:
    """Counts of bad records of no known skill, or of a skill that no document is left of."""
    total: dict[str, int] = {}
    for skill, counts in faults.counts.items():
        if skill not in written:
            for reason, count in counts.items():
                total[reason] = total.get(reason, 0) + count
    return dict(sorted((reason, count) for reason, count in total.items() if count))
