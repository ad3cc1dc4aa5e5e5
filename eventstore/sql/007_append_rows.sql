-- What one append hands over, row by row. Apart from the tables, so that a column added to a table later on does not
-- change what a program of before sends.

create type appended_receipt as (
    stream_id text, command_id text, body_hash text, outcome bytea, version integer, position bigint
);

create type appended_event as (
    position bigint, stream_id text, version integer, type text, schema_version integer, command_id text,
    occurred_at bigint, meta bytea, body bytea, salt bytea, leaf bytea, chain bytea
);

comment on type appended_receipt is 'A command''s receipt on its way into command_receipts.';
comment on type appended_event is 'An event on its way into events.';
