-- Extra step on Citus only, once, after the migrations and before the first event, as a superuser on the coordinator.
-- Not run by this repository's tests (no Citus here). Every table is distributed by `partition`, so one append is one shard's work.

-- Triggers on distributed tables are off by default; the grants of thirdkey_app refuse UPDATE, DELETE and TRUNCATE without them.
set citus.enable_unsafe_triggers = on;

select create_reference_table('log_settings');
select create_distributed_table('log_heads', 'partition');
select create_distributed_table('events', 'partition', colocate_with => 'log_heads');
select create_distributed_table('command_receipts', 'partition', colocate_with => 'log_heads');
select create_distributed_table('seat_leases', 'partition', colocate_with => 'log_heads');
select create_distributed_table('slot_leases', 'partition', colocate_with => 'log_heads');
select create_distributed_table('duty_leases', 'partition', colocate_with => 'log_heads');
select create_distributed_table('primed_wallets', 'partition', colocate_with => 'log_heads');
select create_distributed_table('evidence_blocks', 'partition', colocate_with => 'log_heads');
select create_distributed_table('sealed_keys', 'partition', colocate_with => 'log_heads');
select create_distributed_table('signed_heads', 'partition', colocate_with => 'log_heads');
select create_distributed_table('projection_checkpoints', 'partition', colocate_with => 'log_heads');
select create_reference_table('read_models');
select create_distributed_table(relation, 'partition', colocate_with => 'log_heads')
from unnest(array['model_escrows', 'model_disputes', 'model_recovery', 'model_wallets', 'model_turns', 'model_deadlines',
    'model_stopped', 'model_capacity', 'model_messages', 'model_photos']) as relation;
