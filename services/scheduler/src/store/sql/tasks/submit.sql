-- submit: stores a batch of tasks and puts each into its first place, all or nothing: into the hands of a session,
-- among those that are ready, or among those that wait for their time.
-- $1 ids, $2 lanes, $3 ranks, $4 payloads, $5 max attempts,
-- $6 start times, $7 delays, $8 titles, $9 rarer options (one object),
-- $10 sessions to lease to, $11 grant id, $12 first and $13 last positions of bundles of tasks that are ready
-- $6 to $10 hold null for most tasks and end where only nulls would follow.
-- Arrays are unnested side by side in the list of columns: in FROM, each would be stored apart before it is read.
-- Returns the clock of the commit.
WITH clock AS MATERIALIZED (SELECT tasklease.micros(now()) AS us),
stored AS (
    INSERT INTO tasklease.task (id, lane, rank, max_attempts, order_key, payload, title, description, owner,
                                labels, parent_id, retry_of, initial_backoff_ms, max_backoff_ms,
                                run_timeout_ms, traceparent)
    SELECT u.id, u.lane, u.rank, u.max_attempts,
           greatest(clock.us, tasklease.micros(coalesce(u.start_at, now() + u.delay))), u.payload, u.title,
           u.options ->> 'description', u.options ->> 'owner', u.options -> 'labels',
           (u.options ->> 'parent_id')::uuid, (u.options ->> 'retry_of')::uuid,
           (u.options ->> 'initial_backoff_ms')::bigint, (u.options ->> 'max_backoff_ms')::bigint,
           (u.options ->> 'run_timeout_ms')::bigint, u.options ->> 'traceparent'
    FROM clock,
         (SELECT unnest($1::uuid[]) AS id, unnest($2::int[]) AS lane, unnest($3::smallint[]) AS rank,
                 unnest($4::json[]) AS payload, unnest($5::smallint[]) AS max_attempts,
                 unnest($6::timestamptz[]) AS start_at, unnest($7::interval[]) AS delay, unnest($8::text[]) AS title,
                 unnest($9::json[]) AS options) AS u
),
now_ready AS (
    INSERT INTO tasklease.ready (lane, rank, order_key, first_task, lease_token, attempt, task_ids)
    SELECT ($2::int[])[b.first], ($3::smallint[])[b.first], clock.us, ($1::uuid[])[b.first], 1, 1,
           ($1::uuid[])[b.first:b.last]
    FROM clock, unnest($12::int[], $13::int[]) AS b (first, last)
),
overdue AS (
    INSERT INTO tasklease.ready (lane, rank, order_key, first_task, lease_token, attempt, task_ids)
    SELECT u.lane, u.rank, clock.us, u.id, 1, 1, ARRAY[u.id]
    FROM clock, unnest($1::uuid[], $2::int[], $3::smallint[], $6::timestamptz[]) AS u (id, lane, rank, start_at)
    WHERE cardinality($6::timestamptz[]) > 0 AND u.start_at <= now()
),
granted AS (
    INSERT INTO tasklease.grant (session_id, grant_id, lease_token, attempt, task_ids)
    SELECT u.session_id, $11::bigint, 1, 1, array_agg(u.id)
    FROM (SELECT unnest($1::uuid[]) AS id, unnest($10::uuid[]) AS session_id) AS u
    WHERE cardinality($10::uuid[]) > 0 AND u.session_id IS NOT NULL
    GROUP BY u.session_id
),
later AS (
    INSERT INTO tasklease.scheduled (task_id, due_at, lease_token, attempt)
    SELECT u.id, coalesce(u.start_at, now() + u.delay), 1, 1
    FROM unnest($1::uuid[], $6::timestamptz[], $7::interval[]) AS u (id, start_at, delay)
    WHERE cardinality($6::timestamptz[]) + cardinality($7::interval[]) > 0
      AND coalesce(u.start_at, now() + u.delay) > now()
)
SELECT now() AS committed_at
