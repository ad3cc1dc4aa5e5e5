-- Read models: rows derived from escrows' states, thrown away and rebuilt at will. Runs as thirdkey_owner.
-- Ids are compared byte by byte, as the service does; pages do not depend on the database's locale.
-- A rebuilt model lies beside the live one as rows of another generation; one update of `read_models` makes it the live one.

create table read_models (
    model text collate "C" primary key,
    live integer not null default 1,
    building integer,
    newest integer not null default 1,
    stopped text,
    check (newest >= live and newest >= coalesce(building, 1))
);
comment on table read_models is 'Which generation of each read model is read, and which one is being built beside it.';
comment on column read_models.newest is 'The highest generation ever begun; a number is never used again.';
comment on column read_models.stopped is 'Where and by what the model was stopped; null while it goes on.';
comment on column projection_checkpoints.projection is 'Model and generation, `escrows@3`.';

create table model_escrows (
    generation integer not null,
    partition integer not null,
    escrow_id text collate "C" not null,
    order_id text not null,
    buyer_id text not null,
    vendor_id text not null,
    arbiter_id text not null,
    amount bigint not null,
    state text not null,
    outcome text,
    created_at bigint not null,
    version integer not null,
    position bigint not null,
    watched boolean not null,
    primary key (generation, partition, escrow_id)
);
comment on table model_escrows is 'One line an escrow: who, how much, where it stands, and whether its address is watched.';
create index model_escrows_newest on model_escrows (generation, created_at, escrow_id);
create index model_escrows_buyer on model_escrows (generation, buyer_id, created_at, escrow_id);
create index model_escrows_vendor on model_escrows (generation, vendor_id, created_at, escrow_id);
create index model_escrows_arbiter on model_escrows (generation, arbiter_id, created_at, escrow_id);
create index model_escrows_id on model_escrows (generation, escrow_id);
create index model_escrows_watched on model_escrows (generation, partition, position) where watched;

create table model_disputes (
    generation integer not null,
    partition integer not null,
    escrow_id text collate "C" not null,
    case_id text collate "C" not null,
    order_id text not null,
    buyer_id text not null,
    vendor_id text not null,
    arbiter_id text not null,
    amount bigint not null,
    state text not null,
    status text not null,
    awaited boolean not null,
    opened_by text not null,
    opened_at bigint not null,
    touched_at bigint not null,
    buyer_claim text,
    vendor_claim text,
    decision text,
    buyer_share_bp integer,
    reason text,
    fee_atomic bigint not null,
    decided_at bigint,
    winner_tx_hash text,
    primary key (generation, partition, escrow_id)
);
comment on table model_disputes is 'One row a case. Claims and reason stay sealed, and are null once their key is shredded.';
comment on column model_disputes.awaited is 'Whether the case is neither resolved nor closed.';
create index model_disputes_case on model_disputes (generation, case_id);
create index model_disputes_awaited on model_disputes (generation, arbiter_id, opened_at, case_id) where awaited;

create table model_recovery (
    generation integer not null,
    partition integer not null,
    escrow_id text collate "C" not null,
    order_id text not null,
    state text not null,
    amount bigint not null,
    reasons text[] not null,
    case_id text collate "C",
    active_at bigint not null,
    primary key (generation, partition, escrow_id)
);
comment on table model_recovery is 'Escrows that people must look at: open recovery items, disputes, and those that cannot be read.';
create index model_recovery_oldest on model_recovery (generation, active_at, escrow_id);

create table model_wallets (
    generation integer not null,
    partition integer not null,
    escrow_id text collate "C" not null,
    buyer_kind text not null,
    vendor_kind text not null,
    arbiter_kind text not null,
    buyer_wallet text,
    vendor_wallet text,
    arbiter_wallet text,
    primary key (generation, partition, escrow_id)
);
comment on table model_wallets is 'One row an escrow, a wallet a role: where each seat''s wallet lives and its id, null until it has one.';

create table model_turns (
    generation integer not null,
    partition integer not null,
    escrow_id text collate "C" not null,
    role text collate "C" not null,
    kind text collate "C" not null,
    step text not null,
    turn_id text not null,
    since bigint not null,
    in_line boolean not null,
    primary key (generation, partition, escrow_id, role)
);
comment on table model_turns is 'Open turns: what is asked of which seat''s wallet.';
comment on column model_turns.in_line is 'Whether it may be taken now: wallets of one set-up are claimed in seat order.';
create index model_turns_kind on model_turns (generation, kind, escrow_id, role) where in_line;

create table model_deadlines (
    generation integer not null,
    partition integer not null,
    escrow_id text collate "C" not null,
    kind text collate "C" not null,
    start bigint not null,
    due bigint not null,
    primary key (generation, partition, escrow_id, kind)
);
comment on table model_deadlines is 'What happens by itself at which moment; outages of the daemon are not counted in.';
create index model_deadlines_due on model_deadlines (generation, due, escrow_id, kind);

create table model_stopped (
    generation integer not null,
    partition integer not null,
    escrow_id text collate "C" not null,
    version integer not null,
    position bigint not null,
    says text not null,
    primary key (generation, partition, escrow_id)
);
comment on table model_stopped is 'Escrows with an event that cannot be read or cannot follow: they keep the state before it.';

create table model_capacity (
    generation integer not null,
    partition integer not null,
    mark text collate "C" not null,
    number bigint not null,
    primary key (generation, partition, mark)
);
comment on table model_capacity is 'How many escrows bear each mark: by state, alive, disputed, with wallets on hosted seats.';

grant select, insert, update on read_models to thirdkey_app;
grant delete on projection_checkpoints to thirdkey_app;
grant select, insert, update, delete on model_escrows, model_disputes, model_recovery, model_wallets, model_turns,
    model_deadlines, model_stopped, model_capacity to thirdkey_app;
