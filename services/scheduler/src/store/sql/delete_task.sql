-- delete_task: removes a task that has ended, with all it left behind. No row if it has not ended.
-- $1 task id
WITH ended AS (SELECT task_id FROM tasklease.run WHERE task_id = $1 AND final),
gone AS (DELETE FROM tasklease.task t USING ended WHERE t.id = ended.task_id RETURNING t.id),
events AS (DELETE FROM tasklease.task_event e USING ended WHERE e.task_id = ended.task_id),
runs AS (DELETE FROM tasklease.run r USING ended WHERE r.task_id = ended.task_id)
SELECT id FROM gone
