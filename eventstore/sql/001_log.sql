-- The log: events, the head of each partition, receipts. Runs as thirdkey_owner.
-- Every table carries `partition`, so that all of one stream lies on one node when Citus distributes by it.

create table log_settings (
    only_row boolean primary key default true check (only_row),
    partitions integer not null check (partitions between 1 and 1024),
    created_at timestamptz not null default clock_timestamp()
);
comment on table log_settings is 'LOG_PARTITIONS, fixed when the log is created: streams are spread by hash over this number.';

create table events (
    partition integer not null,
    position bigint not null check (position > 0),
    stream_id text not null check (stream_id <> ''),
    version integer not null check (version > 0),
    type text not null check (type <> ''),
    schema_version integer not null check (schema_version > 0),
    command_id text not null,
    occurred_at bigint not null,
    recorded_at timestamptz not null default clock_timestamp(),
    meta bytea not null,
    body bytea not null,
    salt bytea not null check (octet_length(salt) = 16),
    leaf bytea not null check (octet_length(leaf) = 32),
    chain bytea not null check (octet_length(chain) = 32),
    primary key (partition, stream_id, version),
    unique (partition, position)
);
comment on column events.occurred_at is 'Microseconds since the Unix epoch, by the actor''s clock; hashed into the leaf.';
comment on column events.recorded_at is 'By the database''s clock; not hashed.';
comment on column events.leaf is 'sha256 over salt and the length-prefixed fields, see eventstore/chain.py.';
comment on column events.chain is 'sha256 over the previous position''s chain and this leaf.';

create table log_heads (
    partition integer primary key,
    position bigint not null check (position >= 0),
    chain bytea not null check (octet_length(chain) = 32)
);
comment on table log_heads is 'The end of each partition; its row lock orders the appends, held from one call''s update to its commit.';

create table command_receipts (
    partition integer not null,
    stream_id text not null check (stream_id <> ''),
    command_id text not null,
    body_hash text not null,
    outcome bytea not null,
    version integer not null check (version >= 0),
    position bigint not null check (position >= 0),
    recorded_at timestamptz not null default clock_timestamp(),
    primary key (partition, stream_id, command_id)
);
comment on table command_receipts is 'What became of each command, written in its append''s transaction: a command happens once.';

create table signed_heads (
    partition integer not null,
    position bigint not null check (position > 0),
    chain bytea not null check (octet_length(chain) = 32),
    merkle_root bytea not null check (octet_length(merkle_root) = 32),
    signed_at bigint not null,
    key_id text not null,
    signature bytea not null,
    primary key (partition, position, key_id)
);
comment on table signed_heads is 'Signatures over position, chain and Merkle root: what shows a cut tail.';

create table projection_checkpoints (
    partition integer not null,
    projection text not null,
    position bigint not null check (position >= 0),
    primary key (partition, projection)
);
comment on table projection_checkpoints is 'How far each read model has folded each partition.';

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% of % refused: the log is append-only', tg_op, tg_table_name using errcode = 'restrict_violation';
end
$$;

create trigger events_keep_rows before update or delete on events
    for each row execute function refuse_change();
create trigger events_keep_table before truncate on events
    for each statement execute function refuse_change();
-- ALWAYS: they fire under session_replication_role = replica too.
alter table events enable always trigger events_keep_rows;
alter table events enable always trigger events_keep_table;

grant select on log_settings, schema_migrations to thirdkey_app;
grant select, insert on events, command_receipts, signed_heads to thirdkey_app;
grant select, update (position, chain) on log_heads to thirdkey_app;
grant select, insert, update on projection_checkpoints to thirdkey_app;
