-- sweep_grants: removes rows of grants whose tasks have all ended, left behind when a session moved to another replica.
-- A task that ended and was deleted has no run any more.
DELETE FROM tasklease.grant l
WHERE l.created_at < now() - interval '1 minute'
  AND NOT EXISTS (
      SELECT FROM unnest(l.task_ids) AS u (task_id)
      JOIN tasklease.task t ON t.id = u.task_id
      WHERE NOT EXISTS (SELECT FROM tasklease.run r
                        WHERE r.task_id = u.task_id AND r.lease_token = l.lease_token AND r.outcome <> 0 /* cancelling */))
