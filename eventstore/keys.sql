-- Wrapped keys beyond making and reading one: rotation and shredding.

-- name: keys_wrapped_by
-- How many keys each ENCRYPTION_KEY wraps.
select wrapping_key_id, count(*) as keys from sealed_keys where wrapped is not null group by wrapping_key_id;

-- name: keys_wrapped_otherwise
-- The next keys of a partition that another ENCRYPTION_KEY wraps.
select stream_id, wrapping_key_id, wrapped from sealed_keys
where partition = $1 and stream_id > $2 and wrapping_key_id <> $3 and wrapped is not null
order by stream_id limit $4;

-- name: keys_rewrap
-- Replaces keys that are still as they were read: one that was shredded or wrapped anew meanwhile is left alone.
update sealed_keys k set wrapped = n.wrapped, wrapping_key_id = n.wrapping_key_id, rewrapped_at = clock_timestamp()
from unnest($2::text[], $3::bytea[], $4::bytea[], $5::text[]) as n(stream_id, read, wrapped, wrapping_key_id)
where k.partition = $1 and k.stream_id = n.stream_id and k.wrapped = n.read
returning k.stream_id;

-- name: keys_shred
-- Blanks the keys that the log says are shredded.
update sealed_keys k set wrapped = null, shredded_at = clock_timestamp()
where k.wrapped is not null and exists (
    select from events e where e.partition = k.partition and e.stream_id = k.stream_id and e.type = 'key_shredded'
)
returning k.stream_id;
