-- Rotation and shredding of sealed keys: what the service may change of them, and what nobody may.

create index sealed_keys_by_wrapping on sealed_keys (wrapping_key_id, partition, stream_id) where wrapped is not null;
create index events_key_shredded on events (partition, stream_id) where type = 'key_shredded';

create function keep_sealed_key() returns trigger language plpgsql as $$
begin
    if old.wrapped is null then
        raise exception 'the key of % was shredded and stays so', old.stream_id using errcode = 'restrict_violation';
    end if;
    -- The event goes before its effect: what is gone for good must be in the log, with who asked for it.
    if new.wrapped is null and not exists (
        select from events e
        where e.partition = old.partition and e.stream_id = old.stream_id and e.type = 'key_shredded'
    ) then
        raise exception 'the key of % has no key_shredded event', old.stream_id using errcode = 'restrict_violation';
    end if;
    return new;
end
$$;

create trigger sealed_keys_stay before update on sealed_keys for each row execute function keep_sealed_key();
create trigger sealed_keys_keep_rows before delete on sealed_keys
    for each row execute function refuse_change();
create trigger sealed_keys_keep_table before truncate on sealed_keys
    for each statement execute function refuse_change();
-- ALWAYS: they fire under session_replication_role = replica too.
alter table sealed_keys enable always trigger sealed_keys_stay;
alter table sealed_keys enable always trigger sealed_keys_keep_rows;
alter table sealed_keys enable always trigger sealed_keys_keep_table;

grant update (wrapped, wrapping_key_id, rewrapped_at, shredded_at) on sealed_keys to thirdkey_app;
