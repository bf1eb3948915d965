-- read_versions: what tells of each task whether it has changed. Tasks that are gone are missing.
-- $1 ids
SELECT p.id, p.state, p.lease_token, p.cancel_requested, p.due_at,
       coalesce(e.lease_token, 0) AS event_lease_token, coalesce(e.event_no, 0) AS event_no
FROM tasklease.task_place p
LEFT JOIN LATERAL (
    SELECT lease_token, event_no FROM tasklease.task_event
    WHERE task_id = p.id
    ORDER BY lease_token DESC, event_no DESC LIMIT 1
) e ON true
WHERE p.id = ANY ($1::uuid[])
  -- Lane 0: the id of a deleted task.
  AND p.lane <> 0
