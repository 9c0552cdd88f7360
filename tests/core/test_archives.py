"""What may be uploaded, and what is refused, with the reason the uploader will read."""

import gzip
import io
import json
import stat
import tarfile
import zipfile
from collections.abc import Callable

import pytest

from core.archives import ArchiveRefused, Limits, examine, repack

DOCKERFILE = b"FROM scratch\nCOPY server /server\n"
Member = tuple[str | tarfile.TarInfo, bytes]


def tar(*members: Member) -> io.BytesIO:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            if info.isreg():
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


def gz(file: io.BytesIO) -> io.BytesIO:
    return io.BytesIO(gzip.compress(file.getvalue()))


def zipped(*members: tuple[str, bytes]) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def symlink(name: str, target: str) -> Member:
    return special(name, tarfile.SYMTYPE, target), b""


def saved(manifest: object, *others: Member) -> io.BytesIO:
    return tar(("manifest.json", json.dumps(manifest).encode()), *others)


WEB = ("Dockerfile", DOCKERFILE), ("server", b"\x7fELF"), ("static/index.html", b"<h1>hello</h1>")
IMAGE = [{"Config": "c.json", "RepoTags": ["web:1"], "Layers": ["l/layer.tar"]}]
PARTS = ("c.json", b"{}"), ("l/layer.tar", b"layer")


def contents(file: io.BytesIO, kind: str = "build") -> dict[str, bytes]:
    packed = io.BytesIO(b"".join(repack(file, "saved" if kind == "saved" else "build")))
    with tarfile.open(fileobj=packed, mode="r:") as archive:
        return {m.name: (archive.extractfile(m) or io.BytesIO()).read() for m in archive if m.isreg()}


@pytest.mark.parametrize("make", [lambda: tar(*WEB), lambda: gz(tar(*WEB)), lambda: zipped(*WEB)])
def test_a_tar_a_compressed_tar_and_a_zip_are_all_the_same_to_the_builder(
    make: Callable[[], io.BytesIO],
) -> None:
    found = examine(make())
    assert (found.kind, found.entries, found.dockerfile) == ("build", 3, DOCKERFILE.decode())
    assert contents(make()) == dict(WEB)


def test_dots_and_folders_around_the_names_do_not_hide_the_dockerfile() -> None:
    file = tar((special("./", tarfile.DIRTYPE), b""), ("./Dockerfile", DOCKERFILE))
    assert examine(file).entries == 1
    assert contents(file) == {"Dockerfile": DOCKERFILE}


def test_permissions_survive() -> None:
    info = tarfile.TarInfo("run.sh")
    info.mode = 0o755
    packed = io.BytesIO(b"".join(repack(tar(("Dockerfile", DOCKERFILE), (info, b"#!/bin/sh")), "build")))
    with tarfile.open(fileobj=packed) as archive:
        assert archive.getmember("run.sh").mode == 0o755


def test_a_link_inside_the_archive_survives() -> None:
    file = tar(("Dockerfile", DOCKERFILE), ("a/one", b"1"), symlink("a/b/two", "../one"))
    assert examine(file).entries == 3
    with tarfile.open(fileobj=io.BytesIO(b"".join(repack(file, "build")))) as archive:
        assert archive.getmember("a/b/two").linkname == "../one"


def zip_link(target: str) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("Dockerfile", DOCKERFILE)
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, target)
    return file


def test_a_zip_may_link_too() -> None:
    with tarfile.open(fileobj=io.BytesIO(b"".join(repack(zip_link("Dockerfile"), "build")))) as archive:
        assert archive.getmember("link").issym()


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (tar(*WEB, ("/etc/passwd", b"")), "/etc/passwd: absolute"),
        (tar(*WEB, ("C:/windows", b"")), "C:/windows: absolute"),
        (tar(*WEB, ("a/../../b", b"")), r"a/\.\./\.\./b: '\.\.'"),
        (tar(*WEB, ("a\\..\\b", b"")), r"'\.\.' is not allowed"),
        (zipped(*WEB, ("../evil", b"")), r"\.\./evil: '\.\.'"),
        (zipped(*WEB, ("/evil", b"")), "/evil: absolute"),
        (tar(*WEB, symlink("l", "/etc/shadow")), "l: links to /etc/shadow, outside"),
        (tar(*WEB, symlink("a/l", "../../x")), r"a/l: links to \.\./\.\./x, outside"),
        (tar(*WEB, symlink("l", "d/../..")), "outside"),
        (tar(*WEB, symlink("l", "static"), ("l/x", b"")), "l/x: lies beneath the link l"),
        (tar(*WEB, ("l/x", b""), symlink("l", "static")), "l: is a link and a folder"),
        (zip_link("../../etc/shadow"), "link: links to"),
        (tar(*WEB, (special("h", tarfile.LNKTYPE, "/etc/shadow"), b"")), "/etc/shadow: absolute"),
        (tar(*WEB, (special("h", tarfile.LNKTYPE, "nothing"), b"")), "h: links to nothing"),
        (tar(*WEB, (special("sda", tarfile.BLKTYPE), b"")), "sda: only files"),
        (tar(*WEB, (special("pipe", tarfile.FIFOTYPE), b"")), "pipe: only files"),
        (tar(*WEB, ("Dockerfile", b"FROM evil")), "Dockerfile: occurs twice"),
        (tar(*WEB, ("./Dockerfile", b"FROM evil")), "Dockerfile: occurs twice"),
        (tar(("app/Dockerfile", DOCKERFILE)), "at the root of the archive, found only app/Dockerfile"),
        (tar(("server", b"")), "Dockerfile: must be at the root of the archive$"),
        (tar(symlink("Dockerfile", "other"), ("other", b"")), "Dockerfile: must be a regular file"),
        (io.BytesIO(b"#!/bin/sh\necho hello\n" * 99), "neither tar, tar.gz nor zip"),
        (io.BytesIO(b""), "neither tar, tar.gz nor zip"),
        (io.BytesIO(gzip.compress(b"not a tar" * 99)), "damaged"),
        (io.BytesIO(tar(*WEB).getvalue()[:1500]), "damaged"),
        (io.BytesIO(tar(*WEB).getvalue()[:1024]), "damaged"),
        (io.BytesIO(gz(tar(*WEB)).getvalue()[:100]), "damaged"),
        (io.BytesIO(zipped(*WEB).getvalue()[:100]), "damaged"),
        (saved([]), "exactly one image"),
        (saved({"a": 1}), "exactly one image"),
        (saved(IMAGE * 2, *PARTS), "exactly one image"),
        (saved(IMAGE, *PARTS[:1]), "names l/layer.tar, which is not in the archive"),
        (saved(IMAGE, *PARTS, ("manifest.json", b"[]")), "manifest.json: occurs twice"),
        (tar(("oci-layout", b"{}"), ("index.json", b"{}")), "OCI layout"),
    ],
)
def test_a_bad_archive_is_refused_by_the_name_of_the_entry_and_the_rule(
    file: io.BytesIO, reason: str
) -> None:
    """B-31: links, devices and ways out of the archive among them."""
    with pytest.raises(ArchiveRefused, match=reason):
        examine(file)


def test_an_encrypted_zip_is_refused() -> None:
    packed = bytearray(zipped(*WEB).getvalue())
    at = packed.index(b"PK\x01\x02")
    packed[at + 8] |= 1
    with pytest.raises(ArchiveRefused, match="encrypted"):
        examine(io.BytesIO(bytes(packed)))


ZEROS = bytes(20 << 20)


@pytest.mark.parametrize(
    "make",
    [
        lambda: gz(tar(("Dockerfile", DOCKERFILE), ("zeros", ZEROS))),
        lambda: zipped(("Dockerfile", DOCKERFILE), ("zeros", ZEROS)),
    ],
)
def test_a_bomb_is_refused_before_it_goes_off(make: Callable[[], io.BytesIO]) -> None:
    """B-31."""
    with pytest.raises(ArchiveRefused, match="unpacks to more than"):
        examine(make())


def test_a_header_that_would_fill_the_memory_is_refused() -> None:
    huge = special("pax", tarfile.XHDTYPE)
    huge.size = 1 << 30
    with pytest.raises(ArchiveRefused, match="header of more than"):
        examine(io.BytesIO(huge.tobuf(tarfile.USTAR_FORMAT) + ZEROS))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(packed_bytes=100), "larger than 100 bytes"),
        (Limits(unpacked_bytes=40), "static/index.html: unpacks to more than 40 bytes in all"),
        (Limits(entries=2), "more than 2 entries"),
    ],
)
def test_each_limit_holds(limits: Limits, reason: str) -> None:
    with pytest.raises(ArchiveRefused, match=reason):
        examine(tar(*WEB), limits)


def test_a_saved_image_loses_every_name_it_gives_itself() -> None:
    names = ("repositories", b'{"web":{}}'), ("index.json", b"{}"), ("oci-layout", b"{}")
    file = saved(IMAGE, *PARTS, *names)
    assert examine(file).kind == "saved"
    kept = contents(file, "saved")
    assert set(kept) == {"manifest.json", "c.json", "l/layer.tar"}
    assert json.loads(kept["manifest.json"]) == [IMAGE[0] | {"RepoTags": None}]
