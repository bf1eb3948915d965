-- delete_task: removes a task that has ended, with all it left behind. No row if it has not ended.
-- Its id, and the fences of its leases, stay until retention removes them, in lane 0, which nobody sees: a grant may
-- still name the task, and a worker that was frozen may still report on it. So its id is not used again.
-- $1 task id
WITH ended AS (SELECT task_id FROM tasklease.run WHERE task_id = $1 AND final),
gone AS (
    UPDATE tasklease.task t
    SET lane = 0,
        -- What tells whether a submit of the same id is the same.
        payload = json_build_object('lane', t.lane,
                                    'sha256', encode(sha256(convert_to(t.payload::text, 'UTF8')), 'hex')),
        title = NULL, description = NULL, owner = NULL, labels = NULL, parent_id = NULL,
        retry_of = NULL, traceparent = NULL
    FROM ended
    WHERE t.id = ended.task_id AND t.lane <> 0
    RETURNING t.id
),
events AS (DELETE FROM tasklease.task_event e USING gone WHERE e.task_id = gone.id),
runs AS (
    UPDATE tasklease.run r
    SET worker = NULL, result = NULL, error_type = NULL, error_message = NULL, error_detail = NULL, cancel_reason = NULL
    FROM gone
    WHERE r.task_id = gone.id
)
SELECT id FROM gone
