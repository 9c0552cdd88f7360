"""From when on which price counts, as a list of examples."""

from msgspec.structs import replace

from core.messages.billing import PriceListId, PricesAreInThePast, PricesPublished, PublishPrices
from handlers import billing
from tests.given import Scenario

given = Scenario(billing.decider)

publish = PublishPrices(price_list_id="default", minute_nanos=10_000_000, from_ms=1000, at_ms=500)
published = PricesPublished(
    price_list_id=PriceListId("default"), minute_nanos=10_000_000, from_ms=1000, at_ms=500
)


def test_prices_are_published_once() -> None:
    given().when(publish).then(published)
    given(published).when(publish).then_nothing()


def test_the_same_prices_asked_for_later_change_nothing() -> None:
    given(published).when(replace(publish, at_ms=2000)).then_nothing()


def test_prices_may_count_from_this_very_moment() -> None:
    given().when(replace(publish, at_ms=1000)).then(replace(published, at_ms=1000))


def test_prices_do_not_change_for_time_that_has_passed() -> None:
    given().when(replace(publish, at_ms=1001)).then_rejected(PricesAreInThePast)


def test_prices_do_not_change_for_time_an_earlier_list_was_set_for() -> None:
    before = replace(publish, minute_nanos=1, from_ms=999)
    given(published).when(before).then_rejected(PricesAreInThePast)


def test_later_prices_follow_earlier_ones() -> None:
    dearer = replace(published, minute_nanos=20_000_000, from_ms=3000, at_ms=2000)
    raise_price = replace(publish, minute_nanos=20_000_000, from_ms=3000, at_ms=2000)
    given(published).when(raise_price).then(dearer)
    given(published, dearer).when(raise_price).then_nothing()
