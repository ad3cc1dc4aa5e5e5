-- Signed heads: their frontiers, their triggers, and the leases of what one node does for all.

alter table signed_heads add column frontier bytea not null check (octet_length(frontier) % 32 = 0);
comment on column signed_heads.frontier is 'Roots of the perfect subtrees that the Merkle tree is made of, largest first: the next head needs only the leaves after this one. Not signed: it leads to merkle_root, or is not used.';
comment on column signed_heads.key_id is 'The signer''s Ed25519 public key in hex: who knows a head knows which key to ask about.';
comment on column signed_heads.signed_at is 'Microseconds since the Unix epoch, by the signer''s clock; signed.';

-- Which keys ever signed is found by jumping from one to the next.
create index signed_heads_by_key on signed_heads (key_id);

create trigger signed_heads_keep_rows before update or delete on signed_heads
    for each row execute function refuse_change();
create trigger signed_heads_keep_table before truncate on signed_heads
    for each statement execute function refuse_change();
alter table signed_heads enable always trigger signed_heads_keep_rows;
alter table signed_heads enable always trigger signed_heads_keep_table;

create table duty_leases (
    partition integer not null,
    name text not null,
    holder text not null,
    fence bigint not null check (fence > 0),
    expires_at timestamptz not null,
    detail text not null default '',
    primary key (partition, name)
);
comment on table duty_leases is 'Which node does for all nodes what one must do at a time, named <duty>/<partition>; lies in that partition.';

grant select, insert, update (holder, fence, expires_at, detail) on duty_leases to thirdkey_app;
