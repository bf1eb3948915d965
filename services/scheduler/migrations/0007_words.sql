-- One word for each thing: a lease token is called so everywhere, and a row that holds leases is a grant.

ALTER TABLE tasklease.ready RENAME lease_no TO lease_token;
ALTER TABLE tasklease.scheduled RENAME lease_no TO lease_token;
ALTER TABLE tasklease.run RENAME lease_no TO lease_token;
ALTER TABLE tasklease.task_event RENAME lease_no TO lease_token;
ALTER TABLE tasklease.lease RENAME lease_no TO lease_token;
ALTER TABLE tasklease.lease RENAME TO "grant";
ALTER INDEX tasklease.lease_pkey RENAME TO grant_pkey;
ALTER VIEW tasklease.task_place RENAME COLUMN lease_no TO lease_token;
ALTER VIEW tasklease.task_grant RENAME COLUMN lease_no TO lease_token;
ALTER VIEW tasklease.task_now RENAME COLUMN lease_no TO lease_token;
