-- One key per escrow, wrapped by ENCRYPTION_KEY.

create table sealed_keys (
    partition integer not null,
    stream_id text not null,
    wrapping_key_id text not null,
    wrapped bytea,
    created_at timestamptz not null default clock_timestamp(),
    rewrapped_at timestamptz,
    shredded_at timestamptz,
    primary key (partition, stream_id),
    check ((shredded_at is null) = (wrapped is not null))
);
comment on column sealed_keys.wrapping_key_id is 'Fingerprint of the ENCRYPTION_KEY that wraps this key: rotation finds what is left to do by it.';
comment on column sealed_keys.wrapped is 'Nonce and ciphertext (AES-256-GCM, associated data the stream id); null once shredded.';

-- No UPDATE yet: rotation and shredding come with their own grant.
grant select, insert on sealed_keys to thirdkey_app;
