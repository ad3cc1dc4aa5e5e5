"""What happened, kept: the event log, leases and sealed fields, on Postgres and in memory."""
