-- Escrows whose address is shown once their arbiter is known to be there.

alter table model_escrows add column unready boolean not null default false;
comment on column model_escrows.unready is 'Whether the address to pay to is kept back until the arbiter is ready.';
create index model_escrows_unready on model_escrows (generation, escrow_id) where unready;
