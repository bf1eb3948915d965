-- claim: leases up to cardinality($5) tasks of one lane, one to each of the sessions.
-- $1 lane, ($2, $3, $4) low-water mark: rank, order key, task id, $5 session of each slot, $6 grant id
WITH taken AS (
    DELETE FROM tasklease.ready
    WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM tasklease.ready
        WHERE lane = $1 AND (rank, order_key, task_id) > ($2::smallint, $3::bigint, $4::uuid)
        ORDER BY rank, order_key, task_id
        LIMIT cardinality($5::uuid[])
        FOR UPDATE SKIP LOCKED))
    RETURNING task_id, lease_no, attempt, rank, order_key
),
dealt AS (
    SELECT taken.*, ($5::uuid[])[row_number() OVER ()] AS session_id
    FROM taken
),
granted AS (
    INSERT INTO tasklease.lease (session_id, grant_id, task_ids, lease_nos, attempts)
    SELECT session_id, $6::bigint, array_agg(task_id), array_agg(lease_no), array_agg(attempt)
    FROM dealt
    GROUP BY session_id
)
SELECT dealt.session_id, dealt.task_id, dealt.lease_no, dealt.attempt, dealt.rank, dealt.order_key,
       t.payload, t.max_attempts, t.initial_backoff_ms, t.max_backoff_ms, t.run_timeout_ms, t.traceparent
FROM dealt
JOIN tasklease.task t ON t.id = dealt.task_id
