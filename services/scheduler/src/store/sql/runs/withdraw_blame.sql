-- withdraw_blame: takes back the points that others got because a task was thought to be innocent when it was lost first.
-- $1 ids of tasks that have become suspects themselves
-- Returns the tasks that lose a point. Runs of one loss end in one transaction, so they have one time.
WITH accused AS (
    SELECT DISTINCT first.suspect AS task_id, first.finished_at
    FROM tasklease.run first
    WHERE first.task_id = ANY ($1::uuid[]) AND first.suspect IS NOT NULL
),
held AS MATERIALIZED (
    SELECT r.task_id, r.lease_token
    FROM accused
    JOIN tasklease.run r ON r.task_id = accused.task_id AND r.finished_at = accused.finished_at
    WHERE r.blame = 1
    ORDER BY r.task_id, r.lease_token
    FOR UPDATE OF r
)
UPDATE tasklease.run r SET blame = 0
FROM held
WHERE r.task_id = held.task_id AND r.lease_token = held.lease_token AND r.blame = 1
RETURNING r.task_id
