-- Decisions are signed by their arbiter, and an arbiter's cases are found whatever became of them.

alter table model_disputes
    add column escalated_at bigint,
    add column reason_salt text,
    add column statement text,
    add column signing_key text,
    add column signature text;
comment on column model_disputes.escalated_at is 'When it had been undecided for so long that administrators were told.';
comment on column model_disputes.statement is 'What the arbiter signed; null before the decision, and of one taken before decisions were signed.';
comment on column model_disputes.reason_salt is 'Sealed; of the digest by which the statement names the reason.';

create index model_disputes_arbiter on model_disputes (generation, arbiter_id, opened_at, case_id);
create index model_disputes_status on model_disputes (generation, arbiter_id, status, opened_at, case_id);
