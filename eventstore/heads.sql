-- name: duty_acquire
-- Takes a duty lease that is free, expired or one's own, with a higher fence; no row while another holds it.
insert into duty_leases as l (partition, name, holder, fence, expires_at, detail)
values ($1, $2, $3, 1, clock_timestamp() + $4::float8 * interval '1 second', $5)
on conflict (partition, name) do update
    set holder = $3, fence = l.fence + 1, detail = $5,
        expires_at = clock_timestamp() + $4::float8 * interval '1 second'
    where l.holder = $3 or l.expires_at <= clock_timestamp()
returning fence;

-- name: duty_renew
-- Prolongs a duty lease that nobody took or released since.
update duty_leases set expires_at = clock_timestamp() + $5::float8 * interval '1 second'
where partition = $1 and name = $2 and holder = $3 and fence = $4 and expires_at > '-infinity'
returning fence;

-- name: duty_release
-- Gives a duty lease back; its fence stays.
update duty_leases set expires_at = '-infinity'
where partition = $1 and name = $2 and holder = $3 and fence = $4;

-- name: duty_held
-- Every duty lease.
select name, holder, fence, expires_at <= clock_timestamp() as expired, expires_at = '-infinity' as released, detail
from duty_leases;

-- name: head_add
-- Adds a signed head; no row when the lease is another's by now, or when its last head is not the one it follows.
-- The lease's row is locked: whoever takes it over waits, and whoever had it before finds another fence when it wakes.
with lease as materialized (
    select l.fence from duty_leases l
    where l.partition = $1 and l.name = $9 and l.holder = $10 and l.fence = $11 and l.expires_at > '-infinity'
    for share of l
)
insert into signed_heads (partition, position, chain, merkle_root, signed_at, key_id, signature, frontier)
select $1, $2, $3, $4, $5, $6, $7, $8
from lease
where $12::bigint = coalesce((
    select s.position from signed_heads s where s.partition = $1 order by s.position desc limit 1
), 0)
on conflict (partition, position, key_id) do nothing
returning position;

-- name: heads_newest
-- The newest signed head of every partition that has one, with its frontier.
select h.partition, h.position, h.chain, h.merkle_root, h.signed_at, h.key_id, h.signature, h.frontier
from log_heads l
cross join lateral (
    select s.* from signed_heads s where s.partition = l.partition order by s.position desc limit 1
) h
order by l.partition;

-- name: heads_after
-- The signed heads of one partition in order of position.
select partition, position, chain, merkle_root, signed_at, key_id, signature
from signed_heads
where partition = $1 and position > $2
order by position
limit $3;

-- name: heads_covering
-- For each of several positions of a partition the first signed head at or after it.
select distinct h.partition, h.position, h.chain, h.merkle_root, h.signed_at, h.key_id, h.signature
from unnest($2::bigint[]) as wanted (position)
cross join lateral (
    select s.* from signed_heads s
    where s.partition = $1 and s.position >= wanted.position
    order by s.position limit 1
) h;

-- name: head_keys
-- Every key that ever signed a head, found by jumping from one to the next.
with recursive key as (
    (select s.key_id from signed_heads s order by s.key_id limit 1)
    union all
    select (select s.key_id from signed_heads s where s.key_id > key.key_id order by s.key_id limit 1)
    from key
    where key.key_id is not null
)
select key_id from key where key_id is not null;

-- name: read_leaves
-- The leaves of one partition in order of position.
select leaf from events where partition = $1 and position > $2 order by position limit $3;
