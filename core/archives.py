"""What of an uploaded archive is fit to be built: checked entry by entry, then written anew.

Nothing is ever unpacked to a disk here, and the engine never reads the upload
itself: it gets a fresh tar of the entries that were checked. So two readers
that disagree about an archive have nothing to disagree about.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Literal, NamedTuple

from msgspec import Struct

PIECE = 128 << 10
METADATA_BYTES_MAX = 16 << 20
"""No reader may ask for more at once: a forged header makes them try to hold gigabytes."""
TEXT_BYTES_MAX = 1 << 20
"""Of a Dockerfile or a manifest."""
RATIO_BYTES_FREE = 16 << 20
"""The ratio counts only beyond this: a small page of zeros is no bomb."""

_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)


class ArchiveRefused(Exception):
    """The archive breaks a rule; the message names the entry and the rule."""


class Limits(Struct, frozen=True):
    packed_bytes: int = 512 << 20
    unpacked_bytes: int = 2 << 30
    entries: int = 100_000
    ratio: int = 200


LIMITS = Limits()


class Examined(Struct, frozen=True):
    """`dockerfile` is the text of the Dockerfile at the root, '' for an image saved by `docker save`."""

    kind: Literal["build", "saved"]
    entries: int
    unpacked_bytes: int
    dockerfile: str = ""


class Entry(NamedTuple):
    """`name` as written in the archive; `target` is where a link points to."""

    name: str
    kind: Literal["file", "folder", "symlink", "hardlink"]
    size: int
    mode: int
    target: str
    open: Callable[[], IO[bytes]]


@contextmanager
def _unharmed() -> Iterator[None]:
    """What the readers of archives raise, in our words."""
    try:
        yield
    except _DAMAGE as error:
        raise ArchiveRefused(f"archive: damaged or cut short ({error})") from error


@_unharmed()
def examine(file: IO[bytes], limits: Limits = LIMITS) -> Examined:
    """Read a seekable archive from end to end. Raises `ArchiveRefused`.

    A Dockerfile at the root makes it something to build, else a manifest.json
    makes it a saved image. Blocks; call it in a thread.
    """
    count = size = 0
    texts: dict[str, bytes] = {}
    names: set[str] = set()
    for name, entry in _checked(file, limits):
        count, size = count + 1, size + entry.size
        names.add(name)
        keep = name in ("Dockerfile", "manifest.json") and entry.kind == "file"
        for piece in _content(entry):
            if keep:
                texts[name] = texts.get(name, b"") + piece
    if "Dockerfile" in texts:
        return Examined("build", count, size, texts["Dockerfile"].decode(errors="replace"))
    if "manifest.json" in texts:
        _manifest(texts["manifest.json"], names)
        return Examined("saved", count, size)
    if "Dockerfile" in names:
        raise ArchiveRefused("Dockerfile: must be a regular file")
    if "index.json" in names and "oci-layout" in names:
        raise ArchiveRefused("manifest.json: missing; this is an OCI layout, save the image with docker save")
    deeper = min((n for n in names if n.endswith("/Dockerfile")), key=lambda n: n.count("/"), default="")
    found = f", found only {_shown(deeper)}" if deeper else ""
    raise ArchiveRefused(f"Dockerfile: must be at the root of the archive{found}")


def repack(file: IO[bytes], kind: Literal["build", "saved"], limits: Limits = LIMITS) -> Iterator[bytes]:
    """The same archive as a plain tar, in pieces; of a saved image without the names it gives itself.

    Loading an image tags it with whatever names its archive carries, be they
    somebody else's; so the manifest loses them, and the older and newer files
    that repeat them are left out. Raises `ArchiveRefused`. Blocks.
    """
    with _unharmed():
        for name, entry in _checked(file, limits):
            if kind == "saved" and name in ("repositories", "index.json", "oci-layout"):
                continue
            info = tarfile.TarInfo(name)
            info.mode, info.linkname = entry.mode, entry.target
            match entry.kind:
                case "file":
                    info.size = entry.size
                case "folder":
                    info.type = tarfile.DIRTYPE
                case "symlink":
                    info.type = tarfile.SYMTYPE
                case "hardlink":
                    info.type = tarfile.LNKTYPE
            content = _content(entry)
            if kind == "saved" and name == "manifest.json":
                nameless = json.dumps(_manifest(b"".join(content))).encode()
                info.size, content = len(nameless), iter([nameless])
            yield _header(info)
            yield from content
            yield bytes(-info.size % tarfile.BLOCKSIZE)
        yield bytes(2 * tarfile.BLOCKSIZE)


def _content(entry: Entry) -> Iterator[bytes]:
    """All that the entry said it holds, no less: a tar out of step says other things than were checked."""
    left = entry.size
    with entry.open() as content:
        while piece := content.read(PIECE):
            left -= len(piece)
            yield piece
    if left:
        raise EOFError(f"{_shown(entry.name)} does not hold what it says")


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _manifest(text: bytes, names: set[str] | None = None) -> list[dict[str, Any]]:
    """Docker's manifest without names; it must describe one image, all of it in the archive."""
    try:
        manifest = json.loads(text)
        (image,) = manifest
        parts = [image["Config"], *image["Layers"]]
        if not all(isinstance(part, str) for part in parts):
            raise TypeError
    except (ValueError, TypeError, KeyError):
        raise ArchiveRefused("manifest.json: must describe exactly one image, as docker save does") from None
    for part in parts:
        if names is not None and posixpath.normpath(part) not in names:
            raise ArchiveRefused(f"manifest.json: names {_shown(part)}, which is not in the archive")
    return [{"Config": image["Config"], "RepoTags": None, "Layers": image["Layers"]}]


def _checked(file: IO[bytes], limits: Limits) -> Iterator[tuple[str, Entry]]:
    """Every entry under its normal name, once it has passed all the rules that hold for one entry."""
    size = count = 0
    links: set[str] = set()
    parents: set[str] = set()
    files: set[str] = set()
    for entry in _entries(file, limits):
        count, size = count + 1, size + entry.size
        if count > limits.entries:
            raise ArchiveRefused(f"archive: more than {limits.entries} entries")
        if size > limits.unpacked_bytes:
            raise ArchiveRefused(
                f"{_shown(entry.name)}: unpacks to more than {limits.unpacked_bytes} bytes in all"
            )
        name = _normal(entry.name)
        if name == ".":
            continue
        if name in ("Dockerfile", "manifest.json"):
            if name in files or name in links:
                raise ArchiveRefused(f"{name}: occurs twice")
            if entry.size > TEXT_BYTES_MAX:
                raise ArchiveRefused(f"{name}: larger than {TEXT_BYTES_MAX} bytes")
        above = _above(name)
        if through := links.intersection(above):
            raise ArchiveRefused(f"{_shown(name)}: lies beneath the link {_shown(min(through))}")
        parents.update(above)
        match entry.kind:
            case "symlink":
                if name in parents:
                    raise ArchiveRefused(f"{_shown(name)}: is a link and a folder")
                _stays_inside(name, entry.target)
                links.add(name)
            case "hardlink":
                if _normal(entry.target) not in files:
                    raise ArchiveRefused(
                        f"{_shown(name)}: links to {_shown(entry.target)}, no file before it"
                    )
                files.add(name)
            case "file":
                files.add(name)
            case "folder":
                parents.add(name)
        yield name, entry


def _normal(name: str) -> str:
    if name.startswith("/") or name[1:3] in (":/", ":\\"):
        raise ArchiveRefused(f"{_shown(name)}: absolute paths are not allowed")
    if ".." in name.replace("\\", "/").split("/"):
        raise ArchiveRefused(f"{_shown(name)}: '..' is not allowed")
    if "\\" in name or "\0" in name or len(name) > 4096:
        raise ArchiveRefused(f"{_shown(name)}: is no portable file name")
    return posixpath.normpath(name)


def _above(name: str) -> list[str]:
    return [name[:at] for at, letter in enumerate(name) if letter == "/"]


def _stays_inside(name: str, target: str) -> None:
    """Only leading '..' can be judged by the text alone: a later one may climb out of another link."""
    steps = target.split("/")
    up = next((at for at, step in enumerate(steps) if step not in ("..", ".", "")), len(steps))
    leaves = steps[:up].count("..") > name.count("/")
    if not target or target.startswith("/") or ".." in steps[up:] or "\0" in target or leaves:
        raise ArchiveRefused(f"{_shown(name)}: links to {_shown(target)}, outside of the archive")


def _shown(name: str) -> str:
    """A name from a stranger, safe to print, never long."""
    return ascii(name)[1:-1][:200] or "(empty name)"


def _entries(file: IO[bytes], limits: Limits) -> Iterator[Entry]:
    """The archive's type is told by its first bytes; what it is called means nothing."""
    packed = file.seek(0, io.SEEK_END)
    if packed > limits.packed_bytes:
        raise ArchiveRefused(f"archive: larger than {limits.packed_bytes} bytes")
    file.seek(0)
    head = file.read(tarfile.BLOCKSIZE)
    file.seek(0)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_entries(_Guarded(file), packed, limits)
    if head.startswith(b"\x1f\x8b"):
        allowed = min(limits.unpacked_bytes, max(RATIO_BYTES_FREE, packed * limits.ratio))
        return _tar_entries(_Guarded(gzip.GzipFile(fileobj=file, mode="rb"), allowed))
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise ArchiveRefused("archive: is neither tar, tar.gz nor zip") from None
    return _tar_entries(_Guarded(file))


def _tar_entries(file: _Guarded) -> Iterator[Entry]:
    with tarfile.open(fileobj=file, mode="r:") as archive:  # type: ignore[call-overload]  # it has all that is used
        info: tarfile.TarInfo | None
        while (info := archive.next()) is not None:
            archive.members = []  # it would keep them all
            this = info
            match info.type:
                case tarfile.DIRTYPE:
                    yield Entry(info.name, "folder", 0, _mode(info.mode, 0o755), "", io.BytesIO)
                case tarfile.SYMTYPE:
                    yield Entry(info.name, "symlink", 0, 0o777, info.linkname, io.BytesIO)
                case tarfile.LNKTYPE:
                    yield Entry(info.name, "hardlink", 0, _mode(info.mode, 0o644), info.linkname, io.BytesIO)
                case _ if info.isreg() and not info.issparse():
                    yield Entry(
                        info.name,
                        "file",
                        info.size,
                        _mode(info.mode, 0o644),
                        "",
                        lambda: archive.extractfile(this) or io.BytesIO(),
                    )
                case _:
                    raise ArchiveRefused(
                        f"{_shown(info.name)}: only files, folders and links are allowed, "
                        "no devices, pipes or sparse files"
                    )
        if file.latest != bytes(tarfile.BLOCKSIZE):  # tarfile takes any end for a good end
            raise tarfile.ReadError("no end of archive")


def _zip_entries(file: _Guarded, packed: int, limits: Limits) -> Iterator[Entry]:
    try:
        archive = zipfile.ZipFile(file)
    except (NotImplementedError, UnicodeDecodeError) as error:
        raise ArchiveRefused(f"archive: {error}") from error
    with archive:
        total = sum(info.file_size for info in archive.infolist())
        if total > max(RATIO_BYTES_FREE, packed * limits.ratio):
            raise ArchiveRefused(f"archive: unpacks to more than {limits.ratio} times its size")
        for info in archive.infolist():
            name, mode, this = info.filename, info.external_attr >> 16, info
            if info.flag_bits & 1:
                raise ArchiveRefused(f"{_shown(name)}: is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ArchiveRefused(f"{_shown(name)}: is compressed in an unusual way; use deflate")
            match stat.S_IFMT(mode):
                case _ if info.is_dir():
                    yield Entry(name, "folder", 0, _mode(mode, 0o755), "", io.BytesIO)
                case stat.S_IFLNK:
                    if info.file_size > 4096:
                        raise ArchiveRefused(f"{_shown(name)}: links to a name that is too long")
                    target = archive.read(info).decode("utf-8", "surrogateescape")
                    yield Entry(name, "symlink", 0, 0o777, target, io.BytesIO)
                case 0 | stat.S_IFREG:
                    yield Entry(
                        name, "file", info.file_size, _mode(mode, 0o644), "", lambda: archive.open(this)
                    )
                case _:
                    raise ArchiveRefused(
                        f"{_shown(name)}: only files, folders and links are allowed, no devices or pipes"
                    )


def _mode(mode: int, otherwise: int) -> int:
    """Permissions alone; many zips carry none."""
    return mode & 0o7777 or otherwise


class _Guarded:
    """As much of a file as tarfile and zipfile use, with bounds on what they may read at once and in all."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, allowed: int = 1 << 62) -> None:
        self._file, self._allowed = file, allowed
        self.latest = b""

    def read(self, size: int = -1) -> bytes:
        if size > METADATA_BYTES_MAX:
            raise ArchiveRefused(f"archive: has a header of more than {METADATA_BYTES_MAX} bytes")
        self.latest = self._file.read(METADATA_BYTES_MAX if size < 0 else size)
        self._bound(self._file.tell())
        return self.latest

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            self._bound(offset)  # before a compressed file is read on to there
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        """The file belongs to the caller."""

    def _bound(self, position: int) -> None:
        if position > self._allowed:
            raise ArchiveRefused(
                f"archive: unpacks to more than {self._allowed} bytes, too much for its size"
            )
