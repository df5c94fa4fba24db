"""Packed files, opened as what they hold."""

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from app.learner.spelling import COMPRESSION, Compression

# What goes wrong with a file that is cut off, or packed otherwise.
UNPACKABLE = (EOFError, OSError, lzma.LZMAError, zipfile.BadZipFile, ValueError)


def opened(path: Path, compression: Compression) -> IO[bytes]:
    """What a file holds, unpacked as it is read. Raises one of UNPACKABLE, as reading does."""
    match compression:
        case "gzip":
            return cast(IO[bytes], gzip.open(path))
        case "bzip2":
            return bz2.open(path)
        case "xz":
            return lzma.open(path)
        case "zip":
            return _only_file(zipfile.ZipFile(path))
        case "zstd":
            return io.BytesIO(_of_zstandard(path))
        case _:
            return path.open("rb")


def _only_file(archive: zipfile.ZipFile) -> IO[bytes]:
    """The one file of an archive, beside what macOS and Windows add of their own."""
    names = [name for name in archive.namelist() if not _is_hidden(PurePosixPath(name), name)]
    if len(names) != 1:
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise ValueError(
            f"the archive holds {len(names)} files ({shown}); take out the one to read"
        )
    return archive.open(names[0])


def _is_hidden(path: PurePosixPath, name: str) -> bool:
    return (
        name.endswith("/")
        or path.parts[0] == "__MACOSX"
        or path.name.startswith(".")
        or path.name.lower() in ("thumbs.db", "desktop.ini")
    )


def _of_zstandard(path: Path) -> bytes:
    # Python itself unpacks it from 3.14 on, and Polars as it reads lines.
    import polars as pl

    try:
        lines = pl.read_csv(
            path, has_header=False, separator="\x01", quote_char=None, infer_schema=False
        )
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{reason} (of zstd only UTF-8 can be read; else unpack it)") from None
    return "".join(f"{line}\n" for line in lines.to_series().fill_null("")).encode()


class Suffixes(NamedTuple):
    """The suffix of what a file holds, and the compression that its last suffix names."""

    content: str
    compression: Compression | None


def suffixes_of(path: Path) -> Suffixes:
    """What the end of a file's name says of it, in small letters.

    >>> suffixes_of(Path("May.CSV.gz"))
    Suffixes(content='.csv', compression='gzip')
    """
    suffixes = ["", *(suffix.lower() for suffix in path.suffixes)]
    packed = COMPRESSION.get(suffixes[-1])
    return Suffixes((suffixes[:-1] if packed else suffixes)[-1], packed)
