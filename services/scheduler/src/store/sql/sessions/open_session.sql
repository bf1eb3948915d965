-- open_session: stores a new session.
-- $1 id, $2 name, $3 incarnation, $4 task types, $5 queues, $6 labels (JSON text), $7 slots, $8 scheduler,
-- $9 lease duration
INSERT INTO tasklease.session (id, name, incarnation, task_types, queues, labels, slots, scheduler, expires_at)
VALUES ($1, $2, $3, $4, $5, $6::text::json, $7, $8, now() + $9::interval)
