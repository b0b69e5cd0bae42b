-- +goose Up
-- The tenant is in every unique key: else one tenant could take a key from another.
ALTER TABLE audit_leaves DROP CONSTRAINT audit_leaves_pkey, ADD PRIMARY KEY (tenant, log, position);

-- The Git object id of the intent that a release was made of. An intent whose
-- blob is the newest release's is released already, whatever else changed.
ALTER TABLE releases ADD COLUMN blob text NOT NULL DEFAULT '';

-- The first month gets its partition before its first row: later is too late.
SELECT audit_partition(now()::date);
