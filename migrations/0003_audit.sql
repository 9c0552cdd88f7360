-- One row for each event: what happened, to what, and who asked for it by which command.
create table audit (
    position    bigint not null,
    number      int    not null,
    at_ms       bigint not null,
    tenant      text   not null,
    context     text   not null,
    key         text   not null,
    event       text   not null,
    actor       text   not null,
    correlation text   not null,
    command     text   not null,
    primary key (position, number)
);

create index audit_by_tenant on audit (tenant, position);
create index audit_by_key on audit (key, position);
create index audit_by_correlation on audit (correlation, position);
