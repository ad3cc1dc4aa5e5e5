-- Evidence: sealed pictures under the names of their contents, and the read model of what they are.

create table evidence_blocks (
    partition integer not null,
    stream_id text collate "C" not null,
    cid text collate "C" not null,
    number integer not null,
    data bytea not null check (length(data) <= 262144),
    added_at timestamptz not null default clock_timestamp(),
    primary key (partition, stream_id, cid, number)
);
comment on table evidence_blocks is 'Leaves of sealed pictures; a picture is stored, and read back, before the event that names it.';
comment on column evidence_blocks.cid is 'Of the whole file; its leaves in the order of their numbers are that file.';
create index evidence_blocks_oldest on evidence_blocks (partition, added_at);
-- Sealed: nothing can be made smaller, and trying costs more than writing.
alter table evidence_blocks alter column data set storage external;

create index events_evidence_added on events (partition, stream_id) where type = 'evidence_added';

create function is_named_evidence(of_partition integer, of_stream text, of_cid text) returns boolean language sql stable as $$
    select exists (
        select from events e
        where e.partition = of_partition and e.stream_id = of_stream and e.type = 'evidence_added'
            and convert_from(e.body, 'UTF8')::json ->> 'cid' = of_cid
    ) and not exists (
        select from events e
        where e.partition = of_partition and e.stream_id = of_stream and e.type = 'key_shredded'
    );
$$;

create function keep_evidence() returns trigger language plpgsql as $$
begin
    if tg_op <> 'DELETE' or is_named_evidence(old.partition, old.stream_id, old.cid) then
        raise exception 'evidence % of % is kept as it is', old.cid, old.stream_id using errcode = 'restrict_violation';
    end if;
    return old;
end
$$;

create trigger evidence_blocks_stay before update or delete on evidence_blocks
    for each row execute function keep_evidence();
create trigger evidence_blocks_keep_table before truncate on evidence_blocks
    for each statement execute function refuse_change();
-- ALWAYS: they fire under session_replication_role = replica too.
alter table evidence_blocks enable always trigger evidence_blocks_stay;
alter table evidence_blocks enable always trigger evidence_blocks_keep_table;

create table model_photos (
    generation integer not null,
    partition integer not null,
    escrow_id text collate "C" not null,
    photo_id text collate "C" not null,
    case_id text collate "C" not null,
    number integer not null,
    uploader text not null,
    at bigint not null,
    cid text not null,
    sha256 text not null,
    media_type text not null,
    size integer not null,
    width integer not null,
    height integer not null,
    description text,
    buyer_saw_at bigint,
    vendor_saw_at bigint,
    arbiter_saw_at bigint,
    primary key (generation, partition, escrow_id, number)
);
comment on table model_photos is 'One row a picture of a case, in the order in which they were added. The description stays sealed.';
comment on column model_photos.buyer_saw_at is 'When each of the three was first shown it; null until then.';

grant select, insert, delete on evidence_blocks to thirdkey_app;
grant select, insert, update, delete on model_photos to thirdkey_app;
