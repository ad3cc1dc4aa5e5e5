-- Cases as they are read: their columns, and what of them lies elsewhere, written down once for every way to find them.
-- The planner looks through it: the plans are those of the same text without a view. A later column is read once the view is
-- made anew with it; one that goes or changes its type takes the view away first.

create view live_cases as
select escrow_id, case_id, order_id, buyer_id, vendor_id, arbiter_id, amount, state, status, awaited, opened_by, opened_at,
    greatest(touched_at, (
        select at from model_messages said
        where said.generation = (select live from read_models where model = 'messages')
            and (said.partition, said.escrow_id) = (model_disputes.partition, model_disputes.escrow_id)
        order by number desc limit 1
    )) as touched_at,
    escalated_at, buyer_claim, vendor_claim, decision, buyer_share_bp, reason, reason_salt, statement, signing_key,
    signature, fee_atomic, decided_at, winner_tx_hash, arbiter_fee_tx_hash
from model_disputes
where generation = (select live from read_models where model = 'disputes');
comment on view live_cases is 'The cases of the live generation; `disputes` and `messages` may stand at different generations.';
comment on column live_cases.touched_at is 'Of two moments the later one: a message does not write the case''s row anew.';

grant select on live_cases to thirdkey_app;
