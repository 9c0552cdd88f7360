import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.hostname import is_address, normalise


@pytest.mark.parametrize(
    ("raw", "hostname"),
    [
        ("https://youtube.com", "youtube.com"),
        ("HTTP://YouTube.com/", "youtube.com"),
        (" youtube.com ", "youtube.com"),
        ("youtube.com///", "youtube.com"),
        ("https://youtube.com:8080/", "youtube.com"),
        ("youtube.com/watch?v=1", "youtube.com"),
        ("youtube.com?v=http://other.example", "youtube.com"),
        ("www.youtube.com", "www.youtube.com"),
        ("//youtube.com", "youtube.com"),
        ("youtube.com.", "youtube.com"),
        ("[::1]:8080", "[::1]"),
        ("http://[0:0::1]/", "[::1]"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("localhost", "localhost"),
        ("r3---sn-5uaeznes.example", "r3---sn-5uaeznes.example"),
    ],
)
def test_many_spellings_are_one_hostname(raw: str, hostname: str) -> None:
    assert normalise(raw) == hostname


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "   ",
        "https://",
        "http://https://x.com",
        "ftp://x.com",
        "javascript://x.com",
        "you tube.com",
        "youtube.com\x00.evil.example",
        "youtube.com\r\nX-Evil: 1",
        "me@youtube.com",
        "user:secret@youtube.com",
        "youtube..com",
        ".youtube.com",
        ".",
        "..",
        "-a.example",
        "a-.example",
        "under_score.example",
        "*.example",
        "a" * 64 + ".example",
        ".".join(["a" * 63] * 5),
        "x.com:",
        "x.com:99999",
        "x.com:0",
        "x.com:8²",
        "[::1",
        "[::1]x",
        "[::1%25eth0]",
        "[nonsense]",
        "::1",
        "1.2.3",
        "0x7f.1",
        "999.1.1.1",
        "xn--a.example",
        "/etc/passwd",
    ],
)
def test_nonsense_is_refused(raw: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        normalise(raw)


@given(st.text())
def test_what_is_normalised_stays_as_it_is(raw: str) -> None:
    try:
        hostname = normalise(raw)
    except ValueError:
        return
    assert normalise(hostname) == hostname
    assert hostname.isascii()
    assert hostname == hostname.lower()


@pytest.mark.parametrize(
    ("host", "yes"), [("[::1]", True), ("10.0.0.1", True), ("web.example", False), ("web1", False)]
)
def test_addresses_are_told_from_names(host: str, yes: bool) -> None:
    assert is_address(host) is yes
