-- cancelling: the open cancel requests, those that must be revoked first.
-- $1 at most this many
SELECT task_id, lease_token, coalesce(cancel_reason, '') AS reason,
       cancel_deadline - clock_timestamp() AS grace
FROM tasklease.run
WHERE outcome = 0 /* cancelling */
ORDER BY cancel_deadline
LIMIT $1
