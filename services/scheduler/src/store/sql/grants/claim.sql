-- claim: leases up to cardinality($5) tasks of one lane, one to each of the sessions.
-- $1 lane, ($2, $3, $4) low-water mark: rank, order key, first task, $5 session of each slot, $6 grant id,
-- $7 look at no more bundles than this, $8 last rank to take
-- Returns a row for each bundle: how many tasks came before it, its size, rank, order key, lease token and attempt, the
-- time of the lease in µs since 1970, and those of its tasks that were leased. These numbers share a
-- column, because each column costs the rows of tasks, too.
-- And what workers get of the tasks whose ids are between the first and the last of a bundle: one walk along an
-- index instead of a search for each, because tasks that became ready together were mostly stored together. What else
-- lies there is read in vain, so that is bounded; the caller picks the leased ones, and reads what is missing by id.
WITH locked AS (
    SELECT ctid AS place, rank, order_key, first_task, cardinality(task_ids) AS size
    FROM tasklease.ready
    WHERE lane = $1 AND (rank, order_key, first_task) > ($2::smallint, $3::bigint, $4::uuid)
      AND rank <= $8::smallint
    ORDER BY rank, order_key, first_task
    LIMIT $7::bigint
    FOR UPDATE SKIP LOCKED
),
counted AS (
    SELECT place, size,
           (sum(size) OVER (ORDER BY rank, order_key, first_task ROWS UNBOUNDED PRECEDING) - size)::int AS before
    FROM locked
),
taken AS (
    DELETE FROM tasklease.ready r USING counted
    WHERE r.ctid = counted.place AND counted.before < cardinality($5::uuid[])
    RETURNING counted.before, counted.size, r.rank, r.order_key, r.lease_token, r.attempt, r.task_ids
),
given AS MATERIALIZED (
    SELECT before, size, rank, order_key, lease_token, attempt,
           task_ids[:cardinality($5::uuid[]) - before] AS task_ids
    FROM taken
),
rest AS (
    INSERT INTO tasklease.ready (lane, rank, order_key, first_task, lease_token, attempt, task_ids)
    SELECT $1, rank, order_key, task_ids[cardinality($5::uuid[]) - before + 1], lease_token, attempt,
           task_ids[cardinality($5::uuid[]) - before + 1:]
    FROM taken
    WHERE before + size > cardinality($5::uuid[])
),
granted AS (
    INSERT INTO tasklease.grant (session_id, grant_id, lease_token, attempt, task_ids)
    SELECT ($5::uuid[])[position], $6::bigint, lease_token, attempt, array_agg(id)
    FROM (SELECT unnest(task_ids) AS id, generate_series(before + 1, before + cardinality(task_ids)) AS position,
                 lease_token, attempt
          FROM given) AS dealt
    GROUP BY 1, 3, 4
    ORDER BY 1, 3, 4
)
SELECT ARRAY[before, size, rank, order_key, lease_token, attempt,
             tasklease.micros(now())]::bigint[] AS bundle, task_ids, NULL::uuid AS id,
       NULL::json AS payload, NULL::smallint AS max_attempts, NULL::bigint AS initial_backoff_ms,
       NULL::bigint AS max_backoff_ms, NULL::bigint AS run_timeout_ms, NULL::text AS traceparent
FROM given
UNION ALL
SELECT NULL, NULL, t.id, t.payload, t.max_attempts, t.initial_backoff_ms, t.max_backoff_ms, t.run_timeout_ms,
       t.traceparent
FROM given,
     LATERAL (SELECT * FROM tasklease.task
              WHERE id BETWEEN given.task_ids[1] AND given.task_ids[cardinality(given.task_ids)]
              ORDER BY id
              LIMIT 2 * cardinality(given.task_ids)) AS t
