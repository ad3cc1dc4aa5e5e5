-- The arbiter's fee may be paid by a transaction of its own; until now it was always the winner's.

alter table model_disputes add column arbiter_fee_tx_hash text;
update model_disputes set arbiter_fee_tx_hash = winner_tx_hash where fee_atomic > 0;
comment on column model_disputes.arbiter_fee_tx_hash is 'Null without a fee, and until it is paid for good.';
