"""Text files with separators (CSV, TSV) as record batches, every value as it stands in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import csv

from spooled_pipelines.batch.source.csv_records import (
    RecordCutter,
    line_breaks,
    pieces,
    utf8_blocks,
)
from spooled_pipelines.batch.source.csv_types import ColumnFacts, ColumnTypes, cast, column_types
from spooled_pipelines.batch.source.read_errors import wrap_read_errors
from spooled_pipelines.batch.values.arrow_types import repeated_names
from spooled_pipelines.errors import EmptyTableError, InvalidArgumentError, SourceError

if TYPE_CHECKING:
    from spooled_pipelines.batch.options.text_options import TextOptions
    from spooled_pipelines.batch.source.location import Location

_NOT_CSV = {
    "an HTML page, not a CSV file. Check where it was downloaded from": re.compile(
        rb"\s*<(!doctype html|html|head|table)\b", re.IGNORECASE
    ),
    "XML, not a CSV file. Read it into a table first": re.compile(rb"\s*<\?xml\b"),
    "JSON, not a CSV file. Name it .jsonl": re.compile(rb'\s*(\[\s*)?\{\s*"'),
    # Excel writes such a line, and takes it for none of the table's.
    "one with a first line for Excel. Say skip_lines=1, and the separator that the line "
    "names": re.compile(rb'"?sep=."?[\r\n]', re.IGNORECASE),
}
_OTHER_SEPARATORS = {";": "';'", "\t": r"'\t'", "|": "'|'", ",": "','"}


@dataclass(frozen=True)
class _Text:
    """A text file that is being read: its columns' names, and its pieces after the header."""

    location: Location
    options: TextOptions
    separator: str
    cutter: RecordCutter
    names: list[str]
    pieces: Iterator[tuple[int, bytes]]


def find_column_types(locations: Sequence[Location], options: TextOptions) -> ColumnTypes:
    """Read files that are one table once, and return what their columns are.

    Raises:
        InvalidArgumentError: a file is not what its name and the options say.
    """
    facts: dict[str, ColumnFacts] = {}
    names: list[str] = []
    states = {location.path: location.state() for location in locations}
    for location in locations:
        with wrap_read_errors(f"the file {location.name!r}"), location.open_stream() as stream:
            text = _opened(stream, location, options)
            names = names or text.names
            here = [
                facts.setdefault(name, ColumnFacts(options.type_of(name) == "number"))
                for name in text.names
            ]
            for line, piece in text.pieces:
                for seen, values in zip(here, _parsed(text, line, piece).columns, strict=True):
                    seen.add(values.combine_chunks(), options)
    unknown = [] if isinstance(options.types, (str, type(None))) else list(options.types)
    for name in unknown:
        if name not in facts:
            raise InvalidArgumentError(
                f"types: there is no column {name!r}. There are: {', '.join(facts)[:300]}."
            )
    return replace(column_types(list(facts), list(facts.values()), options), states=states)


def open_csv(
    location: Location, types: ColumnTypes, options: TextOptions
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Return the schema and the record batches of one file, whose columns' types are known."""
    stream = location.open_stream()
    text = _opened(stream, location, options)
    schema = pa.schema([types.schema.field(name) for name in text.names])

    def batches() -> Iterator[pa.RecordBatch]:
        with stream:
            for line, piece in text.pieces:
                table = _parsed(text, line, piece)
                columns = [
                    _cast(text, line, field, column.combine_chunks())
                    for field, column in zip(schema, table.columns, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)
        if types.states.get(location.path) != location.state():
            raise SourceError(
                f"the file {location.name!r} was changed while it was read, so the types that were "
                "found may not hold for it. Read it once it is whole. Nothing was sent."
            )

    return schema, batches()


def _opened(stream: IO[bytes], location: Location, options: TextOptions) -> _Text:
    separator = options.separator or _separator_of(location)
    cutter = RecordCutter(separator, options.quote)
    blocks = utf8_blocks(stream, options.encoding, location.name)
    line, head, blocks = _after_lines(blocks, options.skip_lines)
    remaining = pieces(_chained(head, blocks), cutter, location.name, line)
    line, piece = next(remaining, (line, b""))
    if not piece.strip():
        raise EmptyTableError(f"the file {location.name!r} is empty, so it has not even a header.")
    for form, looks_so in _NOT_CSV.items():
        if options.header and looks_so.match(piece):
            raise InvalidArgumentError(f"the file {location.name!r} is {form}. Nothing was sent.")
    names = list(options.column_names or ())
    if options.header:
        end = _header_end(cutter, piece)
        header = _header(piece[:end], separator, options, location)
        names = names or header
        if len(names) != len(header):
            raise InvalidArgumentError(
                f"column_names must name the {len(header)} columns of {location.name!r}, got "
                f"{len(names)} names."
            )
        line, piece = line + line_breaks(piece[:end]), piece[end:]

    twice = repeated_names(names)
    if twice:
        raise InvalidArgumentError(
            f"the file {location.name!r} names two columns {twice[0]!r}. Name them yourself, "
            "column_names=[...]. Nothing was sent."
        )

    def rest() -> Iterator[tuple[int, bytes]]:
        if piece.strip(b"\r\n"):
            yield line, piece
        yield from remaining

    return _Text(location, options, separator, cutter, names, rest())


def _separator_of(location: Location) -> str:
    suffixes = [suffix.lower() for suffix in PurePath(location.path).suffixes]
    return "\t" if ".tsv" in suffixes else ","


def _after_lines(blocks: Iterator[bytes], lines: int) -> tuple[int, bytes, Iterator[bytes]]:
    """Return the line that comes next, what was read of it, and the blocks that follow."""
    head = b""
    for block in blocks:
        head += block
        # One more than asked for: a break may be cut at the end of the block.
        if not lines or line_breaks(head) > lines:
            break
    return lines + 1, b"".join(head.splitlines(keepends=True)[lines:]), blocks


def _chained(head: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from blocks


def _header_end(cutter: RecordCutter, piece: bytes) -> int:
    # Blank lines before the header are not records.
    start = len(piece) - len(piece.lstrip(b"\r\n"))
    return start + next(cutter.record_ends(piece[start:]))


def _header(record: bytes, separator: str, options: TextOptions, location: Location) -> list[str]:
    table = csv.read_csv(
        pa.BufferReader(record),
        read_options=csv.ReadOptions(use_threads=False, autogenerate_column_names=True),
        parse_options=_parse_options(separator, options),
        convert_options=csv.ConvertOptions(
            column_types={f"f{i}": pa.string() for i in range(record.count(separator.encode()) + 1)}
        ),
    )
    names = [str(column[0].as_py() or "") for column in table.columns]
    if len(names) == 1:
        for other, shown in _OTHER_SEPARATORS.items():
            if other != separator and other in names[0]:
                raise InvalidArgumentError(
                    f"the header of {location.name!r} is one column, {names[0][:80]!r}, read with "
                    f"the separator {separator!r}. Say the file's own, separator={shown}. "
                    "Nothing was sent."
                )
    return names


def _parse_options(separator: str, options: TextOptions) -> csv.ParseOptions:
    return csv.ParseOptions(
        delimiter=separator,
        quote_char=options.quote if options.quote is not None else False,
        newlines_in_values=True,
    )


def _parsed(text: _Text, line: int, piece: bytes) -> pa.Table:
    """Parse a piece of whole records to columns of texts; an empty field is null."""
    refused: list[Any] = []

    def note(row: csv.InvalidRow) -> str:
        refused.append(row)
        return "error"

    parse = _parse_options(text.separator, text.options)
    parse.invalid_row_handler = note
    # By place, since a file may name two columns alike.
    columns = [f"{place}" for place in range(len(text.names))]
    nulls = ["", *(text.options.null_texts or ())]
    try:
        return csv.read_csv(
            pa.BufferReader(piece),
            read_options=csv.ReadOptions(
                use_threads=False, block_size=len(piece) + 1, column_names=columns
            ),
            parse_options=parse,
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                null_values=nulls,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        if not refused:
            raise
        row = refused[0]
        at = "" if row.number is None else _line(text, line, piece, row.number - 1)
        raise InvalidArgumentError(
            f"{at or 'a line'} of {text.location.name!r} has {row.actual_columns} fields, and the "
            f"file has {row.expected_columns} columns ({', '.join(text.names)[:200]}). Mend the "
            "line, or say the separator and quote that the file has. Nothing was sent."
        ) from None


def _line(text: _Text, line: int, piece: bytes, number: int) -> str:
    ends = [0, *islice(text.cutter.record_ends(piece), number)]
    return f"line {line + line_breaks(piece[: ends[-1]])}"


def _cast(text: _Text, line: int, field: pa.Field, values: pa.Array) -> pa.Array:
    try:
        return cast(values, field.type, text.options)
    except pa.ArrowInvalid as error:
        said = " ".join(str(error).split())[:200]
        raise InvalidArgumentError(
            f"column {field.name!r} of {text.location.name!r}, in or after line {line}: {said}. "
            "Say another type, types={" + repr(field.name) + ": 'text'}. Nothing was sent."
        ) from None
