-- Leases with fences. Rows are never deleted: a fence only grows.

create table seat_leases (
    partition integer not null,
    name text not null,
    holder text not null,
    fence bigint not null check (fence > 0),
    expires_at timestamptz not null,
    detail text not null default '',
    primary key (partition, name)
);
comment on table seat_leases is 'Who takes the turns of a seat, named <stream_id>/<role>; lies in the partition of its stream.';

create table slot_leases (
    partition integer not null,
    name text not null,
    holder text not null,
    fence bigint not null check (fence > 0),
    expires_at timestamptz not null,
    detail text not null default '',
    primary key (partition, name)
);
comment on table slot_leases is 'Which node uses a wallet slot; `detail` says for what.';

grant select, insert, update (holder, fence, expires_at, detail) on seat_leases, slot_leases to thirdkey_app;
