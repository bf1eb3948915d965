-- find_session: a session that is not over.
-- $1 id
SELECT name, task_types, queues, slots FROM tasklease.session WHERE id = $1
