-- Wallets that are made before they are needed.

-- name: primed_note
-- Notes a wallet that is about to be made for a slot; no row when the slot has a free one.
insert into primed_wallets (partition, slot, name, sealed) values ($1, $2, $3, $4)
on conflict do nothing returning name;

-- name: primed_opened
-- Notes under which lease of the slot a free wallet was open in it.
update primed_wallets set address = $4, fence = $5
where partition = $1 and slot = $2 and name = $3 and claimed_by is null
returning name;

-- name: primed_free
-- Every wallet that nobody claimed: at most one a slot.
select slot, name, sealed, address, fence from primed_wallets where claimed_by is null;

-- name: primed_free_of
-- The wallet of one slot that nobody claimed.
select slot, name, sealed, address, fence from primed_wallets
where partition = $1 and slot = $2 and claimed_by is null;

-- name: primed_claim
-- Gives a free wallet to a seat, for ever, unless it was opened under another lease since it was read.
update primed_wallets set claimed_by = $5
where partition = $1 and slot = $2 and name = $3 and fence = $4 and claimed_by is null
returning name;

-- name: primed_drop
-- Forgets a wallet that nobody claimed, nor opened under another lease since it was read.
delete from primed_wallets where partition = $1 and slot = $2 and name = $3 and fence = $4 and claimed_by is null
returning name;
