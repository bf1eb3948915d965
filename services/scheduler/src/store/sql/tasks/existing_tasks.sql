-- existing_tasks: those of some tasks that are stored.
-- $1 ids
SELECT id, lane, payload FROM tasklease.task WHERE id = ANY ($1::uuid[])
