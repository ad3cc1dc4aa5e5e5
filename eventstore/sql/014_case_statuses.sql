-- A decided case stays under review until its payout is final; when it was decided, `decided_at` says.

update model_disputes set status = 'under_review' where status = 'decided';
