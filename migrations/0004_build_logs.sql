-- What builds said. The broker keeps it for a week; this is where it stays.
create table build_logs (
    position bigint primary key,
    tenant   text   not null,
    image_id text   not null,
    at_ms    bigint not null,
    text     text   not null
);

create index build_logs_by_image on build_logs (image_id, position);
