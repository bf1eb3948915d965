-- cancelling: the open cancel requests, those that must be revoked first.
-- $1 at most this many
SELECT task_id, lease_token, coalesce(cancel_reason, '') AS reason,
       greatest(0, (extract(epoch FROM cancel_deadline - clock_timestamp()) * 1000000)::bigint) AS grace_us
FROM tasklease.run
WHERE outcome = 0
ORDER BY cancel_deadline
LIMIT $1
