-- name: append_group
-- Appends a group in one call: moves the head if it is where the caller last saw it, and gives the time of it back, taken
-- under the head's lock. For groups of which everything is known by the head and the keys: no fence, no version to look
-- up. The nodes that look them up took 20 to 35 us to set up in each statement, even where nothing was asked of them.
-- No row back: the head moved; nothing was written then. A command that has its receipt already violates the receipts'
-- key, a version taken since the caller knew it the events' key, and nothing was written either.
with settings as materialized (
    select set_config('lock_timeout', $2, true) as lock_timeout,
        set_config('idle_in_transaction_session_timeout', $3, true) as idle_timeout
),
head as (
    update log_heads h set position = $6, chain = $7
    from settings s
    where h.partition = $1 and h.position = $4 and h.chain = $5 and s.lock_timeout is not null
    returning clock_timestamp() as recorded_at
),
receipts as (
    insert into command_receipts (partition, stream_id, command_id, body_hash, outcome, version, position, recorded_at)
    select $1, r.stream_id, r.command_id, r.body_hash, r.outcome, r.version, r.position, head.recorded_at
    from head, unnest($8::appended_receipt[]) as r
),
written as (
    insert into events (partition, position, stream_id, version, type, schema_version, command_id, occurred_at,
        recorded_at, meta, body, salt, leaf, chain)
    select $1, e.position, e.stream_id, e.version, e.type, e.schema_version, e.command_id, e.occurred_at,
        head.recorded_at, e.meta, e.body, e.salt, e.leaf, e.chain
    from head, unnest($9::appended_event[]) as e
)
select (extract(epoch from recorded_at) * 1000000)::bigint as recorded_at from head;

-- name: append_group_checked
-- Appends a group as `append_group` does, where every assumption about versions and fences holds besides.
-- No row back: the head moved, or a version or fence is not as assumed; nothing was written then. A command that has its
-- receipt already violates the receipts' key, and nothing was written either.
-- The snapshot's versions are exact: whoever appended after it was taken moved the head, and the update finds that out
-- (it reads the row again after waiting for its lock). Versions that the caller knows to have been reached are not looked
-- up: one taken since violates its key. Fences do not move the head, so their rows are locked and read anew.
with settings as materialized (
    select set_config('lock_timeout', $2, true) as lock_timeout,
        set_config('idle_in_transaction_session_timeout', $3, true) as idle_timeout
),
leased as materialized (
    select l.name, l.fence
    from seat_leases l, settings s
    where l.partition = $1 and l.name = any ($12::text[]) and s.lock_timeout is not null
    for share of l
),
refused as materialized (
    select 1
    from unnest($10::text[], $11::integer[]) as base (stream_id, version)
    where base.version <> coalesce((
        select e.version from events e
        where e.partition = $1 and e.stream_id = base.stream_id
        order by e.version desc limit 1
    ), 0)
    union all
    select 1
    from unnest($12::text[], $13::bigint[]) as claim (name, fence)
    left join leased on leased.name = claim.name
    where coalesce(leased.fence, 0) <> claim.fence
),
head as (
    update log_heads h set position = $6, chain = $7
    from settings s
    where h.partition = $1 and h.position = $4 and h.chain = $5
        and s.lock_timeout is not null and not exists (select from refused)
    returning clock_timestamp() as recorded_at
),
receipts as (
    insert into command_receipts (partition, stream_id, command_id, body_hash, outcome, version, position, recorded_at)
    select $1, r.stream_id, r.command_id, r.body_hash, r.outcome, r.version, r.position, head.recorded_at
    from head, unnest($8::appended_receipt[]) as r
),
written as (
    insert into events (partition, position, stream_id, version, type, schema_version, command_id, occurred_at,
        recorded_at, meta, body, salt, leaf, chain)
    select $1, e.position, e.stream_id, e.version, e.type, e.schema_version, e.command_id, e.occurred_at,
        head.recorded_at, e.meta, e.body, e.salt, e.leaf, e.chain
    from head, unnest($9::appended_event[]) as e
)
select (extract(epoch from recorded_at) * 1000000)::bigint as recorded_at from head;

-- name: append_group_behind
-- Appends a group in one call, where other nodes move the head too: locks it, gives the events their places and hashes
-- behind whatever it ends with, and gives these and the time of it back, taken under the lock.
-- No row back: a version or fence is not as assumed, or the head is not between $4 and $5; nothing was written then. A
-- command that has its receipt, or a version that was taken, violates a key, and nothing was written either.
-- The snapshot may be older than the lock, but no stream goes back: a version it knows leaves no gap, and one taken since
-- has its key. That key alone stands for the versions that the caller knows to have been reached. Where an item has no
-- events, and so no key, $5 is the head the caller knows. Fences do not go by the head: their rows are locked, read anew.
with settings as materialized (
    select set_config('lock_timeout', $2, true) as lock_timeout,
        set_config('idle_in_transaction_session_timeout', $3, true) as idle_timeout
),
leased as materialized (
    select l.name, l.fence
    from seat_leases l, settings s
    where l.partition = $1 and l.name = any ($8::text[]) and s.lock_timeout is not null
    for share of l
),
refused as materialized (
    select 1
    from unnest($6::text[], $7::integer[]) as base (stream_id, version)
    where base.version <> coalesce((
        select e.version from events e
        where e.partition = $1 and e.stream_id = base.stream_id
        order by e.version desc limit 1
    ), 0)
    union all
    select 1
    from unnest($8::text[], $9::bigint[]) as claim (name, fence)
    left join leased on leased.name = claim.name
    where coalesce(leased.fence, 0) <> claim.fence
),
head as materialized (
    select h.position, h.chain
    from log_heads h, settings s
    where h.partition = $1 and h.position between $4 and $5
        and s.lock_timeout is not null and not exists (select from refused)
    for no key update of h
),
placed as materialized (
    select head.position, head.chain, c.leaves, c.chains, clock_timestamp() as recorded_at
    from head, chain_events($1, head.position, head.chain, $11::new_event[]) as c
),
moved as (
    update log_heads h set position = placed.position + cardinality($11::new_event[]),
        chain = coalesce(placed.chains[cardinality(placed.chains)], placed.chain)
    from placed
    where h.partition = $1
),
receipts as (
    insert into command_receipts (partition, stream_id, command_id, body_hash, outcome, version, position, recorded_at)
    select $1, r.stream_id, r.command_id, r.body_hash, r.outcome, r.version, placed.position + r.events,
        placed.recorded_at
    from placed, unnest($10::new_receipt[]) as r
),
written as (
    insert into events (partition, position, stream_id, version, type, schema_version, command_id, occurred_at,
        recorded_at, meta, body, salt, leaf, chain)
    select $1, placed.position + e.n, e.stream_id, e.version, e.type, e.schema_version, e.command_id, e.occurred_at,
        placed.recorded_at, e.meta, e.body, e.salt, e.leaf, e.chain
    from placed, unnest($11::new_event[], placed.leaves, placed.chains) with ordinality as e (stream_id, version, type,
        schema_version, command_id, occurred_at, meta, body, salt, leaf, chain, n)
)
select position, (extract(epoch from recorded_at) * 1000000)::bigint as recorded_at, chain, leaves, chains from placed;

-- name: known
-- Reads in one snapshot what a group is judged by: head, stream versions, fences, and which commands have receipts.
select h.position, h.chain,
    array(
        select coalesce((
            select e.version from events e
            where e.partition = $1 and e.stream_id = s.stream_id
            order by e.version desc limit 1
        ), 0)
        from unnest($2::text[]) with ordinality as s (stream_id, n) order by s.n
    ) as versions,
    array(
        select coalesce((select l.fence from seat_leases l where l.partition = $1 and l.name = f.name), 0)
        from unnest($3::text[]) with ordinality as f (name, n) order by f.n
    ) as fences,
    array(
        select c.n
        from unnest($4::text[], $5::text[]) with ordinality as c (stream_id, command_id, n)
        where (
            select r.version from command_receipts r
            where r.partition = $1 and r.stream_id = c.stream_id and r.command_id = c.command_id
        ) is not null
    ) as done
from log_heads h
where h.partition = $1;

-- name: read_stream
-- One stream in order of version.
select partition, position, stream_id, version, type, schema_version, command_id, occurred_at,
    (extract(epoch from recorded_at) * 1000000)::bigint as recorded_at, meta, body, salt, leaf, chain
from events
where partition = $1 and stream_id = $2 and version > $3
order by version
limit $4;

-- name: read_streams
-- Several streams of one partition together, in order of position. The inner order keeps each on its own index: in order
-- of position the planner could walk the whole partition instead.
select e.*
from unnest($2::text[]) as stream (id)
cross join lateral (
    select partition, position, stream_id, version, type, schema_version, command_id, occurred_at,
        (extract(epoch from recorded_at) * 1000000)::bigint as recorded_at, meta, body, salt, leaf, chain
    from events
    where partition = $1 and stream_id = stream.id and position > $3
    order by version
    limit $4
) e
order by e.position
limit $4;

-- name: read_firsts
-- The first event of several streams of one partition. The inner limit keeps each on its own index, as above.
select e.*
from unnest($2::text[]) as stream (id)
cross join lateral (
    select partition, position, stream_id, version, type, schema_version, command_id, occurred_at,
        (extract(epoch from recorded_at) * 1000000)::bigint as recorded_at, meta, body, salt, leaf, chain
    from events
    where partition = $1 and stream_id = stream.id
    order by version
    limit 1
) e;

-- name: read_partition
-- One partition in order of position.
select partition, position, stream_id, version, type, schema_version, command_id, occurred_at,
    (extract(epoch from recorded_at) * 1000000)::bigint as recorded_at, meta, body, salt, leaf, chain
from events
where partition = $1 and position > $2
order by position
limit $3;

-- name: heads
-- The end of every partition.
select partition, position, chain from log_heads order by partition;

-- name: receipt
-- What became of one command.
select command_id, stream_id, body_hash, outcome, version, position
from command_receipts
where partition = $1 and stream_id = $2 and command_id = $3;

-- name: seat_acquire
-- Takes a seat lease that is free, expired or one's own, with a higher fence; no row while another holds it.
insert into seat_leases as l (partition, name, holder, fence, expires_at, detail)
values ($1, $2, $3, 1, clock_timestamp() + $4::float8 * interval '1 second', $5)
on conflict (partition, name) do update
    set holder = $3, fence = l.fence + 1,
        detail = case when l.expires_at > '-infinity' and l.detail <> '' then l.detail else $5 end,
        expires_at = clock_timestamp() + $4::float8 * interval '1 second'
    where l.holder = $3 or l.expires_at <= clock_timestamp()
returning fence;

-- name: seat_renew
-- Prolongs a seat lease that nobody took or released since.
update seat_leases set expires_at = clock_timestamp() + $5::float8 * interval '1 second'
where partition = $1 and name = $2 and holder = $3 and fence = $4 and expires_at > '-infinity'
returning fence;

-- name: seat_release
-- Gives a seat lease back; its fence stays.
update seat_leases set expires_at = '-infinity'
where partition = $1 and name = $2 and holder = $3 and fence = $4;

-- name: seat_held
-- Every seat lease.
select name, holder, fence, expires_at <= clock_timestamp() as expired, expires_at = '-infinity' as released, detail
from seat_leases;

-- name: slot_acquire
-- Takes a slot lease that is free, expired or one's own, with a higher fence; no row while another holds it.
-- One that was not given back goes on saying what it was used for.
insert into slot_leases as l (partition, name, holder, fence, expires_at, detail)
values ($1, $2, $3, 1, clock_timestamp() + $4::float8 * interval '1 second', $5)
on conflict (partition, name) do update
    set holder = $3, fence = l.fence + 1,
        detail = case when l.expires_at > '-infinity' and l.detail <> '' then l.detail else $5 end,
        expires_at = clock_timestamp() + $4::float8 * interval '1 second'
    where l.holder = $3 or l.expires_at <= clock_timestamp()
returning fence;

-- name: slot_renew
-- Prolongs a slot lease that nobody took or released since.
update slot_leases set expires_at = clock_timestamp() + $5::float8 * interval '1 second'
where partition = $1 and name = $2 and holder = $3 and fence = $4 and expires_at > '-infinity'
returning fence;

-- name: slot_release
-- Gives a slot lease back; its fence stays.
update slot_leases set expires_at = '-infinity'
where partition = $1 and name = $2 and holder = $3 and fence = $4;

-- name: slot_held
-- Every slot lease.
select name, holder, fence, expires_at <= clock_timestamp() as expired, expires_at = '-infinity' as released, detail
from slot_leases;

-- name: key_create
-- Stores an escrow's wrapped key unless it has one.
insert into sealed_keys (partition, stream_id, wrapping_key_id, wrapped)
values ($1, $2, $3, $4)
on conflict (partition, stream_id) do nothing;

-- name: key_read
-- An escrow's wrapped key; `wrapped` is null once shredded.
select wrapping_key_id, wrapped from sealed_keys where partition = $1 and stream_id = $2;

-- name: promises
-- What the log's promises rest on: durable commits, and a role that cannot change events.
select current_user::text as role,
    current_setting('synchronous_commit') as synchronous_commit,
    has_table_privilege('events', 'UPDATE') or has_table_privilege('events', 'DELETE')
        or has_table_privilege('events', 'TRUNCATE') or has_any_column_privilege('events', 'UPDATE')
        as may_change_events;
