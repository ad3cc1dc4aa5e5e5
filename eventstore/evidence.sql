-- Sealed evidence beside the log.

-- name: evidence_add
-- Keeps the leaves of one file.
insert into evidence_blocks (partition, stream_id, cid, number, data)
select $1, $2, $3, leaf.number, leaf.data from unnest($4::integer[], $5::bytea[]) as leaf(number, data)
on conflict do nothing;

-- name: evidence_get
-- The leaves of one file in their order.
select data from evidence_blocks where partition = $1 and stream_id = $2 and cid = $3 order by number;

-- name: evidence_sweep
-- Removes what was added so long ago and is named by no event, or whose key was shredded.
delete from evidence_blocks b
where b.partition = $1 and b.added_at <= clock_timestamp() - make_interval(secs => $2)
    and not is_named_evidence(b.partition, b.stream_id, b.cid)
returning b.cid;
