-- Every read answers from the live generation; which one that is, the same statement reads.
-- Lists go by the index that has them in order, from after the given place on.

-- name: escrow_page
-- All escrows, newest first.
select escrow_id, order_id, buyer_id, vendor_id, arbiter_id, amount, state, outcome, created_at, version, position, watched, unready
from model_escrows
where generation = (select live from read_models where model = 'escrows')
    and (created_at, escrow_id) < ($1, $2)
    and ($3::text is null or state = $3) and ($4::text is null or order_id = $4)
order by created_at desc, escrow_id desc
limit $5;

-- name: escrow_page_of
-- A user's escrows, newest first: from each role's index as many as the page holds. Nobody sits in two seats of one.
with found as (
    (select escrow_id, order_id, buyer_id, vendor_id, arbiter_id, amount, state, outcome, created_at, version, position, watched, unready
    from model_escrows
    where generation = (select live from read_models where model = 'escrows')
        and buyer_id = $6 and ($7::text is null or $7 = 'buyer')
        and (created_at, escrow_id) < ($1, $2)
        and ($3::text is null or state = $3) and ($4::text is null or order_id = $4)
    order by created_at desc, escrow_id desc
    limit $5)
    union all
    (select escrow_id, order_id, buyer_id, vendor_id, arbiter_id, amount, state, outcome, created_at, version, position, watched, unready
    from model_escrows
    where generation = (select live from read_models where model = 'escrows')
        and vendor_id = $6 and ($7::text is null or $7 = 'vendor')
        and (created_at, escrow_id) < ($1, $2)
        and ($3::text is null or state = $3) and ($4::text is null or order_id = $4)
    order by created_at desc, escrow_id desc
    limit $5)
    union all
    (select escrow_id, order_id, buyer_id, vendor_id, arbiter_id, amount, state, outcome, created_at, version, position, watched, unready
    from model_escrows
    where generation = (select live from read_models where model = 'escrows')
        and arbiter_id = $6 and ($7::text is null or $7 = 'arbiter')
        and (created_at, escrow_id) < ($1, $2)
        and ($3::text is null or state = $3) and ($4::text is null or order_id = $4)
    order by created_at desc, escrow_id desc
    limit $5)
)
select * from found order by created_at desc, escrow_id desc limit $5;

-- name: escrow
-- The line of one escrow.
select escrow_id, order_id, buyer_id, vendor_id, arbiter_id, amount, state, outcome, created_at, version, position, watched, unready
from model_escrows
where generation = (select live from read_models where model = 'escrows') and escrow_id = $1;

-- name: escrows_of
-- Every escrow in which a user has a seat.
select escrow_id from model_escrows where generation = (select live from read_models where model = 'escrows') and buyer_id = $1
union
select escrow_id from model_escrows where generation = (select live from read_models where model = 'escrows') and vendor_id = $1
union
select escrow_id from model_escrows where generation = (select live from read_models where model = 'escrows') and arbiter_id = $1;

-- name: unready
-- Escrows whose arbiter is awaited, by name.
select escrow_id, order_id, buyer_id, vendor_id, arbiter_id, amount, state, outcome, created_at, version, position, watched, unready
from model_escrows
where generation = (select live from read_models where model = 'escrows') and unready and escrow_id > $1
order by escrow_id
limit $2;

-- name: watched
-- Escrows with an address that had an event after a position of their partition.
select escrow_id, version, position
from model_escrows
where generation = (select live from read_models where model = 'escrows') and partition = $1 and watched and position > $2
order by position
limit $3;

-- name: case
-- One case.
select * from live_cases where case_id = $1 limit 1;

-- name: cases_awaited
-- An arbiter's cases that are neither resolved nor closed, newest first.
select * from live_cases
where arbiter_id = $1 and awaited
    and (opened_at, case_id) < ($2, $3)
    and ($5::text is null or strpos(lower(concat_ws(' ', case_id, escrow_id, order_id, buyer_id, vendor_id)), $5) > 0)
order by opened_at desc, case_id desc
limit $4;

-- name: cases_by_status
-- An arbiter's cases of one status, newest first.
select * from live_cases
where arbiter_id = $1 and status = $6
    and (opened_at, case_id) < ($2, $3)
    and ($5::text is null or strpos(lower(concat_ws(' ', case_id, escrow_id, order_id, buyer_id, vendor_id)), $5) > 0)
order by opened_at desc, case_id desc
limit $4;

-- name: cases_all
-- All of an arbiter's cases, newest first.
select * from live_cases
where arbiter_id = $1
    and (opened_at, case_id) < ($2, $3)
    and ($5::text is null or strpos(lower(concat_ws(' ', case_id, escrow_id, order_id, buyer_id, vendor_id)), $5) > 0)
order by opened_at desc, case_id desc
limit $4;

-- name: messages
-- The messages of one escrow's case whose number lies above one, in order.
select escrow_id, number, by, at, message, reply_to
from model_messages
where generation = (select live from read_models where model = 'messages') and partition = $1 and escrow_id = $2 and number > $3
order by number
limit $4;

-- name: photos
-- The pictures of one escrow's case, in the order in which they were added.
select escrow_id, photo_id, case_id, number, uploader, at, cid, sha256, media_type, size, width, height, description,
    buyer_saw_at, vendor_saw_at, arbiter_saw_at
from model_photos
where generation = (select live from read_models where model = 'photos') and partition = $1 and escrow_id = $2
order by number;

-- name: recovery
-- Escrows that people must look at, oldest activity first.
select escrow_id, order_id, state, amount, reasons, case_id, active_at
from model_recovery
where generation = (select live from read_models where model = 'recovery') and (active_at, escrow_id) > ($1, $2)
order by active_at, escrow_id
limit $3;

-- name: recovery_count
-- How many there are.
select count(*) as number from model_recovery where generation = (select live from read_models where model = 'recovery');

-- name: wallets
-- The wallets of one escrow.
select escrow_id, buyer_kind, vendor_kind, arbiter_kind, buyer_wallet, vendor_wallet, arbiter_wallet
from model_wallets
where generation = (select live from read_models where model = 'wallets') and partition = $1 and escrow_id = $2;

-- name: open_turns
-- Turns of one kind of seat that may be taken now, by escrow and role.
select escrow_id, role, kind, step, turn_id, since, in_line
from model_turns
where generation = (select live from read_models where model = 'turns') and kind = $1 and in_line and (escrow_id, role) > ($2, $3)
order by escrow_id, role
limit $4;

-- name: due
-- Deadlines up to a moment, soonest first.
select escrow_id, kind, start, due
from model_deadlines
where generation = (select live from read_models where model = 'deadlines') and due <= $1 and (due, escrow_id, kind) > ($2, $3, $4)
order by due, escrow_id, kind
limit $5;

-- name: stopped
-- Escrows that stand still.
select escrow_id, version, position, says
from model_stopped
where generation = (select live from read_models where model = 'stopped')
order by position, escrow_id
limit $1;

-- name: counts
-- Numbers by mark, all partitions together.
select mark, sum(number)::bigint as number
from model_capacity
where generation = (select live from read_models where model = 'capacity')
group by mark;
