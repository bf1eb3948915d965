-- lock_strays: lets one replica at a time look for tasks that are in no place, until its transaction ends.
SELECT pg_advisory_xact_lock(hashtext('tasklease strays'))::text
