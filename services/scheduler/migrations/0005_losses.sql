-- Who is blamed when a worker is lost.

ALTER TABLE tasklease.run ADD lost_with int CHECK (lost_with >= 0);
COMMENT ON COLUMN tasklease.run.lost_with IS
    'Of a lost run: how many other tasks the worker had in hand. Null if nobody is to blame.';

ALTER TABLE tasklease.session ADD was_spared boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN tasklease.session.was_spared IS
    'True if its lease was extended because no scheduler was at work, and no heartbeat has come since.';

ALTER TABLE tasklease.scheduler ADD left_at timestamptz;
COMMENT ON COLUMN tasklease.scheduler.left_at IS 'When it said that it leaves.';
