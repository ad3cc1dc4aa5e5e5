-- What the three say in a case, one row a message.

create table model_messages (
    generation integer not null,
    partition integer not null,
    escrow_id text collate "C" not null,
    number integer not null,
    by text not null,
    at bigint not null,
    message text,
    reply_to integer,
    primary key (generation, partition, escrow_id, number)
);
comment on table model_messages is 'One row a message of a case, sealed; null once its key is shredded.';
comment on column model_messages.reply_to is 'Number of the message it answers, in the same case.';

grant select, insert, update, delete on model_messages to thirdkey_app;
