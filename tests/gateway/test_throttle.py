from gateway.throttle import Throttle


def test_a_burst_passes_and_then_a_steady_rate() -> None:
    throttle = Throttle(5, 60)
    assert [throttle.take("a", 100.0) for _ in range(5)] == [0] * 5
    assert throttle.take("a", 100.0) == 12
    assert throttle.take("a", 105.0) == 7
    assert throttle.take("a", 112.0) == 0
    assert throttle.take("a", 112.0) == 12


def test_keys_do_not_wait_for_each_other() -> None:
    throttle = Throttle(1, 60)
    assert (throttle.take("a", 0.0), throttle.take("b", 0.0)) == (0, 0)


def test_a_try_given_back_does_not_count() -> None:
    throttle = Throttle(1, 60)
    for _ in range(3):
        assert throttle.take("a", 0.0) == 0
        throttle.give_back("a")


def test_no_limit_lets_everything_pass() -> None:
    throttle = Throttle(0, 60)
    assert not any(throttle.take("a", 0.0) for _ in range(1000))


def test_who_has_waited_long_enough_is_forgotten(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("gateway.throttle.KEYS_MAX", 10)
    throttle = Throttle(1, 60)
    for n in range(25):
        throttle.take(str(n), n * 61.0)
    assert len(throttle._free_at) <= 10
