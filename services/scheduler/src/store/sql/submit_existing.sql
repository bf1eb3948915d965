-- submit_existing: those of some tasks that are stored already, with what makes a repeated submit the same.
-- $1 ids
SELECT id, lane, payload FROM tasklease.task WHERE id = ANY ($1::uuid[])
