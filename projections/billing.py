"""What is owed: when each run lived, and what a minute cost when it began.

Nothing is sampled and nothing is added up in advance. Usage is the time between
two facts of the log, so every figure can be recomputed by anybody who has it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from msgspec import Struct

from core.log import Recorded
from core.messages.billing import PricesPublished
from core.messages.catalog import ImageRegistered
from core.messages.containers import ContainerCreated, ContainerDeleted, ContainerStarted, ContainerStopped
from projections.database import Connection, Reader
from projections.prices import DEFAULT_MINUTE_NANOS

MINUTE_MS = 60_000
CENT_NANOS = 10_000_000


class Interval(Struct, frozen=True):
    """One run of one container; `end_ms` is None while it lives. Images and containers may be gone by now.

    `ordinal` numbers all intervals there ever were, as do `image_ordinal` and
    `container_ordinal` the images and containers.
    """

    ordinal: int
    container_id: str
    run: int
    tenant: str
    image_id: str
    start_ms: int
    end_ms: int | None
    minute_nanos: int
    image_ordinal: int
    image_name: str
    container_ordinal: int
    container_name: str

    def duration_ms(self, now_ms: int) -> int:
        return max((now_ms if self.end_ms is None else self.end_ms) - self.start_ms, 0)

    def minutes(self, now_ms: int) -> int:
        return minutes(self.duration_ms(now_ms))

    def amount_nanos(self, now_ms: int) -> int:
        return amount_nanos(self.duration_ms(now_ms), self.minute_nanos)


def minutes(duration_ms: int) -> int:
    """Whole minutes, half a minute to the even side: 30 s are none, 31 s one, 90 s and 150 s both two."""
    return _half_even(duration_ms, MINUTE_MS)


def amount_nanos(duration_ms: int, minute_nanos: int) -> int:
    """Billionths of a dollar for one interval."""
    return minutes(duration_ms) * minute_nanos


def cents(nanos: int) -> int:
    """One interval's amount as it is shown. A sum is the sum of the amounts that are shown."""
    return _half_even(nanos, CENT_NANOS)


def dollars(cents: int) -> str:
    """`12.05`, exactly."""
    return f"{cents // 100}.{cents % 100:02d}"


async def intervals(db: Reader, tenants: Collection[str], image_id: str | None = None) -> list[Interval]:
    """Of these tenants, or of one of their images; the newest start first."""
    rows = await db.fetch(_INTERVALS, list(tenants), image_id, DEFAULT_MINUTE_NANOS)
    return [Interval(*row) for row in rows]


class Ledger:
    """Keeps in memory, of every container that is not deleted, its image and its latest interval."""

    name = "billing"
    tables = {
        "billed_images": "ordinal",
        "billed_containers": "ordinal",
        "intervals": "ordinal",
        "prices": "position, number",
    }

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._images = self._containers = self._intervals = 0
        self._rows = _Rows()

    async def load(self, db: Connection) -> None:
        self._rows = _Rows()
        self._images = await db.fetchval("select count(*) from billed_images")
        self._containers = await db.fetchval("select count(*) from billed_containers")
        self._intervals = await db.fetchval("select count(*) from intervals")
        self._accounts = {row[0]: _Account(*row[1:]) for row in await db.fetch(_ACCOUNTS)}

    def take(self, recorded: Recorded) -> None:
        number = 0
        for decision in recorded.commit.decisions:
            for event in decision.events:
                if (record := _RECORDS.get(type(event))) is not None:
                    record(self, recorded, number, event)
                number += 1

    async def write(self, db: Connection) -> None:
        rows, self._rows = self._rows, _Rows()
        for statement, values in (
            (_ADD_IMAGES, rows.images),
            (_ADD_CONTAINERS, rows.containers),
            (_ADD_INTERVALS, [tuple(opened) for opened in rows.opened.values()]),
            (_END_INTERVALS, rows.ended),
            (_DELETE_CONTAINERS, rows.deleted),
            (_ADD_PRICES, rows.prices),
        ):
            if values:
                await db.execute(statement, *zip(*values, strict=True))

    def _registered(self, recorded: Recorded, number: int, event: ImageRegistered) -> None:
        self._images += 1
        self._rows.images.append((event.image_id, self._images, event.name))

    def _created(self, recorded: Recorded, number: int, event: ContainerCreated) -> None:
        id, tenant = event.container_id, recorded.stream.tenant
        self._containers += 1
        self._accounts[id] = _Account(tenant, event.image_id)
        self._rows.containers.append((id, self._containers, tenant, event.image_id, event.name))

    def _started(self, recorded: Recorded, number: int, event: ContainerStarted) -> None:
        """A run is counted once, and no run while another one is."""
        account = self._accounts.get(event.container_id)
        if account is None or account.start_ms is not None or event.run <= account.run:
            return
        account.run, account.start_ms = event.run, event.at_ms
        self._intervals += 1
        key = (event.container_id, event.run)
        self._rows.opened[key] = [self._intervals, *key, account.tenant, account.image_id, event.at_ms, None]

    def _stopped(self, recorded: Recorded, number: int, event: ContainerStopped) -> None:
        account = self._accounts.get(event.container_id)
        if account is not None and event.run == account.run:
            self._end(event.container_id, account, event.at_ms)

    def _deleted(self, recorded: Recorded, number: int, event: ContainerDeleted) -> None:
        account = self._accounts.pop(event.container_id, None)
        if account is not None:
            self._end(event.container_id, account, event.at_ms)
            self._rows.deleted.append((event.container_id, event.at_ms))

    def _published(self, recorded: Recorded, number: int, event: PricesPublished) -> None:
        self._rows.prices.append((recorded.position, number, event.from_ms, event.minute_nanos))

    def _end(self, container_id: str, account: _Account, at_ms: int) -> None:
        """Clocks differ: what ends before it began has cost nothing."""
        if account.start_ms is None:
            return
        end_ms, key = max(at_ms, account.start_ms), (container_id, account.run)
        account.start_ms = None
        if key in self._rows.opened:
            self._rows.opened[key][-1] = end_ms
        else:
            self._rows.ended.append((*key, end_ms))


class _Account(Struct):
    """`run` is the latest that was counted, 0 for none; `start_ms` is set while it is."""

    tenant: str
    image_id: str
    run: int = 0
    start_ms: int | None = None


class _Rows(Struct):
    images: list[tuple[Any, ...]] = []
    containers: list[tuple[Any, ...]] = []
    opened: dict[tuple[str, int], list[Any]] = {}
    ended: list[tuple[Any, ...]] = []
    deleted: list[tuple[Any, ...]] = []
    prices: list[tuple[Any, ...]] = []


_RECORDS: dict[type, Any] = {
    ImageRegistered: Ledger._registered,
    ContainerCreated: Ledger._created,
    ContainerStarted: Ledger._started,
    ContainerStopped: Ledger._stopped,
    ContainerDeleted: Ledger._deleted,
    PricesPublished: Ledger._published,
}


def _half_even(amount: int, unit: int) -> int:
    whole, rest = divmod(amount, unit)
    return whole + (2 * rest > unit or (2 * rest == unit and whole % 2))


_INTERVALS = """
    select i.ordinal, i.container_id, i.run, i.tenant, i.image_id, i.start_ms, i.end_ms,
           coalesce((select p.minute_nanos from prices p where p.from_ms <= i.start_ms
                     order by p.from_ms desc, p.position desc, p.number desc limit 1), $3),
           coalesce(m.ordinal, 0), coalesce(m.name, ''), c.ordinal, c.name
    from intervals i
    join billed_containers c using (container_id)
    left join billed_images m on m.image_id = i.image_id
    where i.tenant = any($1) and ($2::text is null or i.image_id = $2)
    order by i.start_ms desc, i.ordinal desc
"""
_ACCOUNTS = """
    select c.container_id, c.tenant, c.image_id, coalesce(max(i.run), 0),
           max(i.start_ms) filter (where i.end_ms is null)
    from billed_containers c left join intervals i using (container_id)
    where c.deleted_ms is null group by c.container_id
"""
_ADD_IMAGES = """
    insert into billed_images (image_id, ordinal, name)
    select * from unnest($1::text[], $2::bigint[], $3::text[])
"""
_ADD_CONTAINERS = """
    insert into billed_containers (container_id, ordinal, tenant, image_id, name)
    select * from unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[])
"""
_ADD_INTERVALS = """
    insert into intervals (ordinal, container_id, run, tenant, image_id, start_ms, end_ms)
    select * from unnest(
        $1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[]
    )
"""
_END_INTERVALS = """
    update intervals i set end_ms = e.end_ms
    from unnest($1::text[], $2::bigint[], $3::bigint[]) as e (container_id, run, end_ms)
    where i.container_id = e.container_id and i.run = e.run
"""
_DELETE_CONTAINERS = """
    update billed_containers c set deleted_ms = d.at_ms
    from unnest($1::text[], $2::bigint[]) as d (container_id, at_ms)
    where c.container_id = d.container_id
"""
_ADD_PRICES = """
    insert into prices (position, number, from_ms, minute_nanos)
    select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
"""
