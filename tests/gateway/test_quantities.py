import pytest

from gateway.quantities import cpu_text, mebibytes, memory_text, milli_cpu


@pytest.mark.parametrize(
    ("text", "milli"), [("0.5", 500), ("2", 2000), ("500m", 500), ("0.0001", 1), (" 1 ", 1000), ("1.5m", 2)]
)
def test_cpus_are_read_as_thousandths(text: str, milli: int) -> None:
    assert milli_cpu(text) == milli


@pytest.mark.parametrize(
    ("text", "mib"),
    [("512m", 512), ("512M", 512), ("1g", 1024), ("64Mi", 64), ("1.5Gi", 1536), ("1048577", 2), ("10MB", 10),
     ("6291456b", 6), ("2048k", 2), ("1t", 1 << 20)],
)  # fmt: skip
def test_memory_is_read_as_mebibytes(text: str, mib: int) -> None:
    assert mebibytes(text) == mib


@pytest.mark.parametrize("text", ["", "0", "-1", "1e3", "much", "nan", "inf", "٣", "1" * 50, "0m"])
def test_nonsense_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="looks like"):
        milli_cpu(text)
    with pytest.raises(ValueError, match="looks like"):
        mebibytes(text)


def test_what_is_written_reads_back() -> None:
    for milli in (1, 250, 500, 1000, 1500, 64_000):
        assert milli_cpu(cpu_text(milli)) == milli
    assert (cpu_text(500), memory_text(512)) == ("0.5", "512m")
