-- name: progress
-- How every model stands, and how far its live generation and the one being built are in each partition.
select m.model, m.live, m.building, m.stopped, c.partition, c.position,
    c.projection = m.model || '@' || m.live as is_live
from read_models m
left join projection_checkpoints c
    on c.projection = m.model || '@' || m.live or c.projection = m.model || '@' || m.building
order by m.model, c.partition;

-- name: begin
-- Makes the first generation of each model that has none.
with begun as (
    insert into read_models (model) select unnest($1::text[]) on conflict (model) do nothing returning model
)
insert into projection_checkpoints (partition, projection, position)
select partition, model || '@1', 0 from begun cross join log_heads;

-- name: set_stopped
-- Notes where a model was stopped, null when it goes on.
update read_models set stopped = $2 where model = $1 and stopped is distinct from $2;

-- name: move
-- Moves checkpoints that are where the caller takes them to be, and returns those. Their rows stay locked to the end of
-- the transaction; locking them in one order keeps two nodes from waiting for each other. A node that is stopped in the
-- middle is cut off after $6, and nobody waits for it for longer than $5. The commit need not be durable: rows and
-- checkpoints are lost together, and are made again from the log.
with settings as materialized (
    select set_config('synchronous_commit', 'off', true) as synchronous_commit,
        set_config('lock_timeout', $5, true) as lock_timeout,
        set_config('idle_in_transaction_session_timeout', $6, true) as idle_timeout
),
locked as materialized (
    select c.projection
    from projection_checkpoints c, settings s
    where c.partition = $1 and c.projection = any ($2::text[]) and c.position = $3 and s.synchronous_commit is not null
    order by c.projection
    for update of c
)
update projection_checkpoints c set position = $4
from locked
where c.partition = $1 and c.projection = locked.projection
returning c.projection;

-- name: escrows_remove
-- Takes away the rows of some escrows.
delete from model_escrows where generation = $1 and partition = $2 and escrow_id = any ($3::text[]);

-- name: escrows_add
-- Adds rows, given as a JSON array of objects.
insert into model_escrows
select * from json_populate_recordset(
    json_populate_record(null::model_escrows, json_build_object('generation', $1::integer, 'partition', $2::integer)), $3::json
);

-- name: escrows_clear
-- Takes away a whole generation in one partition.
delete from model_escrows where generation = $1 and partition = $2;

-- name: escrows_rows
-- The live generation of one partition as JSON, by escrow.
select to_jsonb(t) - 'generation' - 'partition' as row
from model_escrows t
where generation = (select live from read_models where model = 'escrows') and partition = $1
order by escrow_id;

-- name: disputes_remove
-- Takes away the rows of some escrows.
delete from model_disputes where generation = $1 and partition = $2 and escrow_id = any ($3::text[]);

-- name: disputes_add
-- Adds rows, given as a JSON array of objects.
insert into model_disputes
select * from json_populate_recordset(
    json_populate_record(null::model_disputes, json_build_object('generation', $1::integer, 'partition', $2::integer)), $3::json
);

-- name: disputes_clear
-- Takes away a whole generation in one partition.
delete from model_disputes where generation = $1 and partition = $2;

-- name: disputes_rows
-- The live generation of one partition as JSON, by escrow.
select to_jsonb(t) - 'generation' - 'partition' as row
from model_disputes t
where generation = (select live from read_models where model = 'disputes') and partition = $1
order by escrow_id;

-- name: messages_remove
-- Takes away the rows of some escrows.
delete from model_messages where generation = $1 and partition = $2 and escrow_id = any ($3::text[]);

-- name: messages_add
-- Adds rows, given as a JSON array of objects.
insert into model_messages
select * from json_populate_recordset(
    json_populate_record(null::model_messages, json_build_object('generation', $1::integer, 'partition', $2::integer)), $3::json
);

-- name: messages_clear
-- Takes away a whole generation in one partition.
delete from model_messages where generation = $1 and partition = $2;

-- name: messages_rows
-- The live generation of one partition as JSON, by escrow and number.
select to_jsonb(t) - 'generation' - 'partition' as row
from model_messages t
where generation = (select live from read_models where model = 'messages') and partition = $1
order by escrow_id, number;

-- name: photos_remove
-- Takes away the rows of some escrows.
delete from model_photos where generation = $1 and partition = $2 and escrow_id = any ($3::text[]);

-- name: photos_add
-- Adds rows, given as a JSON array of objects.
insert into model_photos
select * from json_populate_recordset(
    json_populate_record(null::model_photos, json_build_object('generation', $1::integer, 'partition', $2::integer)), $3::json
);

-- name: photos_clear
-- Takes away a whole generation in one partition.
delete from model_photos where generation = $1 and partition = $2;

-- name: photos_rows
-- The live generation of one partition as JSON, by escrow.
select to_jsonb(t) - 'generation' - 'partition' as row
from model_photos t
where generation = (select live from read_models where model = 'photos') and partition = $1
order by escrow_id, number;

-- name: recovery_remove
-- Takes away the rows of some escrows.
delete from model_recovery where generation = $1 and partition = $2 and escrow_id = any ($3::text[]);

-- name: recovery_add
-- Adds rows, given as a JSON array of objects.
insert into model_recovery
select * from json_populate_recordset(
    json_populate_record(null::model_recovery, json_build_object('generation', $1::integer, 'partition', $2::integer)), $3::json
);

-- name: recovery_clear
-- Takes away a whole generation in one partition.
delete from model_recovery where generation = $1 and partition = $2;

-- name: recovery_rows
-- The live generation of one partition as JSON, by escrow.
select to_jsonb(t) - 'generation' - 'partition' as row
from model_recovery t
where generation = (select live from read_models where model = 'recovery') and partition = $1
order by escrow_id;

-- name: wallets_remove
-- Takes away the rows of some escrows.
delete from model_wallets where generation = $1 and partition = $2 and escrow_id = any ($3::text[]);

-- name: wallets_add
-- Adds rows, given as a JSON array of objects.
insert into model_wallets
select * from json_populate_recordset(
    json_populate_record(null::model_wallets, json_build_object('generation', $1::integer, 'partition', $2::integer)), $3::json
);

-- name: wallets_clear
-- Takes away a whole generation in one partition.
delete from model_wallets where generation = $1 and partition = $2;

-- name: wallets_rows
-- The live generation of one partition as JSON, by escrow.
select to_jsonb(t) - 'generation' - 'partition' as row
from model_wallets t
where generation = (select live from read_models where model = 'wallets') and partition = $1
order by escrow_id;

-- name: turns_remove
-- Takes away the rows of some escrows.
delete from model_turns where generation = $1 and partition = $2 and escrow_id = any ($3::text[]);

-- name: turns_add
-- Adds rows, given as a JSON array of objects.
insert into model_turns
select * from json_populate_recordset(
    json_populate_record(null::model_turns, json_build_object('generation', $1::integer, 'partition', $2::integer)), $3::json
);

-- name: turns_clear
-- Takes away a whole generation in one partition.
delete from model_turns where generation = $1 and partition = $2;

-- name: turns_rows
-- The live generation of one partition as JSON, by escrow.
select to_jsonb(t) - 'generation' - 'partition' as row
from model_turns t
where generation = (select live from read_models where model = 'turns') and partition = $1
order by escrow_id;

-- name: deadlines_remove
-- Takes away the rows of some escrows.
delete from model_deadlines where generation = $1 and partition = $2 and escrow_id = any ($3::text[]);

-- name: deadlines_add
-- Adds rows, given as a JSON array of objects.
insert into model_deadlines
select * from json_populate_recordset(
    json_populate_record(null::model_deadlines, json_build_object('generation', $1::integer, 'partition', $2::integer)), $3::json
);

-- name: deadlines_clear
-- Takes away a whole generation in one partition.
delete from model_deadlines where generation = $1 and partition = $2;

-- name: deadlines_rows
-- The live generation of one partition as JSON, by escrow.
select to_jsonb(t) - 'generation' - 'partition' as row
from model_deadlines t
where generation = (select live from read_models where model = 'deadlines') and partition = $1
order by escrow_id;

-- name: stopped_remove
-- Takes away the rows of some escrows.
delete from model_stopped where generation = $1 and partition = $2 and escrow_id = any ($3::text[]);

-- name: stopped_add
-- Adds rows, given as a JSON array of objects.
insert into model_stopped
select * from json_populate_recordset(
    json_populate_record(null::model_stopped, json_build_object('generation', $1::integer, 'partition', $2::integer)), $3::json
);

-- name: stopped_clear
-- Takes away a whole generation in one partition.
delete from model_stopped where generation = $1 and partition = $2;

-- name: stopped_rows
-- The live generation of one partition as JSON, by escrow.
select to_jsonb(t) - 'generation' - 'partition' as row
from model_stopped t
where generation = (select live from read_models where model = 'stopped') and partition = $1
order by escrow_id;

-- name: capacity_add
-- Adds to the numbers of some marks.
insert into model_capacity as t (generation, partition, mark, number)
select $1, $2, mark, more from unnest($3::text[], $4::bigint[]) as new (mark, more)
on conflict (generation, partition, mark) do update set number = t.number + excluded.number;

-- name: capacity_clear
-- Takes away a whole generation in one partition.
delete from model_capacity where generation = $1 and partition = $2;

-- name: capacity_rows
-- The live numbers of one partition as JSON.
select json_build_object('escrow_id', '', 'mark', mark, 'number', number) as row
from model_capacity
where generation = (select live from read_models where model = 'capacity') and partition = $1 and number <> 0
order by mark;

-- name: live_positions
-- How far each live generation is in one partition.
select m.model, c.position
from read_models m join projection_checkpoints c on c.projection = m.model || '@' || m.live
where c.partition = $1;

-- name: try_rebuilder
-- Takes the right to rebuild a model for as long as this session lives, or says that another session has it.
select pg_try_advisory_lock(hashtext('thirdkey rebuild'), hashtext($1)) as taken;

-- name: leave_rebuilder
-- Gives the right back.
select pg_advisory_unlock(hashtext('thirdkey rebuild'), hashtext($1));

-- name: next_generation
-- Begins another generation beside the live one.
with begun as (
    update read_models set newest = newest + 1, building = newest + 1 where model = $1 returning model, newest
),
laid as (
    insert into projection_checkpoints (partition, projection, position)
    select partition, model || '@' || newest, 0 from begun cross join log_heads
)
select newest from begun;

-- name: bound_swap
-- Bounds how long a swap waits for others, and how long others wait for one that was stopped in the middle.
select set_config('lock_timeout', $1, true), set_config('idle_in_transaction_session_timeout', $2, true);

-- name: lock_checkpoints
-- Holds still the checkpoints of some generations.
select projection, partition, position from projection_checkpoints
where projection = any ($1::text[])
order by partition, projection
for update;

-- name: log_ends
-- How far the log is, by partition.
select partition, position from log_heads;

-- name: live_of
-- The live generation of a model, held still.
select live from read_models where model = $1 for update;

-- name: swap
-- Makes the generation that was built the live one, unless another one is being built by now.
update read_models set live = $2, building = null, stopped = null where model = $1 and building = $2 returning model;

-- name: retire
-- Moves the checkpoints of what was live to where no batch begins, in the swap's transaction: whoever fed it and waited
-- for their lock finds out with the next batch, and not only once its rows are gone.
update projection_checkpoints set position = $2 where projection = $1;

-- name: forgotten
-- Generations of a model that left checkpoints behind, besides the live one and the one being built.
select distinct split_part(c.projection, '@', 2)::integer as generation
from projection_checkpoints c join read_models m on m.model = $1
where c.projection like m.model || '@%'
    and c.projection <> m.model || '@' || m.live
    and c.projection is distinct from m.model || '@' || m.building;

-- name: forget
-- Takes away the checkpoints of a generation whose rows are gone.
delete from projection_checkpoints where projection = $1;
