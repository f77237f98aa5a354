"""Converters: a corpus in, one MDS stream per skill out.

What a corpus has to bring is small (`corpus.py`): a list of files, and a way to read each into documents. One
module a corpus in `corpora/`, listed in `command.py`: ``HELP``, ``add_arguments(parser)`` and ``corpus(args) ->
Corpus``. For files of JSON rows it is a function from a row to the name of a skill, and a line in the table of
`corpora/published.py`.

The parts, in the order the data flows::

    readers.py       files -> lines            plain or .gz .zst .xz .bz2, memory flat
    rows.py, tables.py, json_files.py          lines, columns, arrays -> rows; broken_json.py what is left of one
    corpus.py        rows -> documents         text, skill, perhaps an answer and a split
    generated.py     nothing -> documents      sentences that are computed; each skill is a file
    parts.py         the files in parts        what one process converts by itself, and what is kept of it
    spool.py         what a part keeps of each skill for the whole
    settings.py      what decides on a part    if it differs, what was kept of it is done again
    conversion.py    a part -> train shards    and what only the whole corpus decides on (sinks.py)
    tokens.py        documents -> token ids    gigatoken, checked against the Hugging Face tokenizer
    special_tokens.py  of the tokenizer         their words in documents: counted; the token, or text
    tokenizer_process.py  the tokenizer's files, saved by a process without torch
    splits.py        documents -> train, eval  by a hash of the text
    packing.py       token ids -> samples      end to end, or one document a sample
    shards.py        samples -> MDS shards     shard_writer.py has the writer
    existing.py      what streams that are added to decide on (--add)
    merge.py         parts -> streams          eval, indexes, what was held back
    destinations.py  where the streams lie     an object store; staged_folder.py: a folder that appears complete
    replacing.py     in the place of old ones  whose files contents.py knows; locks.py keeps others out
    grown_folder.py  a finished folder that is added to; history.py has its manifest
    changed_folder.py  one whose skills are renamed, dropped, merged: streams.py is the command, skill_changes.py
                     works out what is to be done, regrouping.py has the manifest
    runners.py       who does the parts        this process, several, Ray (base/tasks.py)
    pipeline.py      all of it

`tokenizer_training.py` is a command of its own, `skillit tokenizer`, which reads text as the converters do.
"""
