-- Wallets made before anybody needs them: one free wallet a slot, open in it, until an escrow claims it.

create table primed_wallets (
    partition integer not null,
    name text not null,
    slot text not null,
    sealed text not null,
    address text,
    fence bigint not null default 0,
    claimed_by text,
    noted_at timestamptz not null default clock_timestamp(),
    primary key (partition, name)
);
create unique index primed_wallets_one_free on primed_wallets (partition, slot) where claimed_by is null;

comment on table primed_wallets is 'Wallets that are made before they are needed; the partition is that of the slot.';
comment on column primed_wallets.sealed is 'The password, sealed under the key of the slot.';
comment on column primed_wallets.address is 'Null until the wallet was made.';
comment on column primed_wallets.fence is 'The slot lease under which it was last known to be open in the slot.';
comment on column primed_wallets.claimed_by is 'The seat; null while it is free. Claimed once, it never becomes free.';

create function keep_claimed_wallet() returns trigger language plpgsql as $$
begin
    if old.claimed_by is not null then
        raise exception 'wallet % was claimed and stays so', old.name using errcode = 'restrict_violation';
    end if;
    return coalesce(new, old);
end
$$;

create trigger primed_wallets_stay_claimed before update or delete on primed_wallets
    for each row execute function keep_claimed_wallet();
alter table primed_wallets enable always trigger primed_wallets_stay_claimed;

grant select, insert, delete, update (address, fence, claimed_by) on primed_wallets to thirdkey_app;
