-- What is owed follows from these rows: when each run lived, and what a minute cost then.
create table billed_images (
    image_id text   primary key,
    ordinal  bigint not null,
    name     text   not null
);

create table billed_containers (
    container_id text   primary key,
    ordinal      bigint not null,
    tenant       text   not null,
    image_id     text   not null,
    name         text   not null,
    deleted_ms   bigint
);

create table intervals (
    ordinal      bigint not null unique,
    container_id text   not null,
    run          bigint not null,
    tenant       text   not null,
    image_id     text   not null,
    start_ms     bigint not null,
    end_ms       bigint check (end_ms >= start_ms),
    primary key (container_id, run)
);

create index intervals_by_tenant_and_image on intervals (tenant, image_id, start_ms);

create table prices (
    position     bigint not null,
    number       bigint not null,
    from_ms      bigint not null,
    minute_nanos bigint not null,
    primary key (position, number)
);
