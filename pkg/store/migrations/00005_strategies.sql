-- +goose Up
-- What a promotion remembers beyond its state, see promotion.Progress.
ALTER TABLE promotions ADD COLUMN progress jsonb NOT NULL DEFAULT '{}';

-- The promotion whose outcome the units of a slot run.
ALTER TABLE slots ADD COLUMN live text NOT NULL DEFAULT '';
UPDATE slots s SET live = coalesce((SELECT p.id FROM promotions p
  WHERE (p.tenant, p.environment, p.deployment) = (s.tenant, s.environment, s.deployment) AND p.status = 'succeeded'
  ORDER BY p.finished_at DESC LIMIT 1), '');

-- What an order says beside its instances. keep_for is in nanoseconds.
ALTER TABLE wanted ADD COLUMN smoke jsonb, ADD COLUMN keep_for bigint NOT NULL DEFAULT 0;

-- A slot is looked at for drift, and a repository's records are written, like any other work that is due.
ALTER TABLE due DROP CONSTRAINT due_kind_check,
  ADD CHECK (kind IN ('inbox', 'repository', 'release', 'promotion', 'slot', 'record'));
INSERT INTO due (tenant, kind, id, wake_at)
  SELECT tenant, 'slot', environment || '/' || deployment, now() FROM slots;

-- What ran in a slot, newest first: what it can be restored to.
CREATE INDEX promotions_former ON promotions (tenant, environment, deployment, finished_at DESC) WHERE status = 'succeeded';
CREATE INDEX promotions_release ON promotions (tenant, release);

-- An artifact that is barred from a slot until a person lifts the hold.
CREATE TABLE holds (
  tenant      text NOT NULL,
  environment text NOT NULL,
  deployment  text NOT NULL,
  artifact    text NOT NULL, -- digest
  reason      text NOT NULL,
  actor       text NOT NULL,
  since       timestamptz NOT NULL,
  PRIMARY KEY (tenant, environment, deployment, artifact)
);

-- What external checks said last about a promotion.
CREATE TABLE checks (
  tenant    text NOT NULL,
  promotion text NOT NULL,
  name      text NOT NULL,
  passed    boolean NOT NULL,
  detail    text NOT NULL,
  at        timestamptz NOT NULL,
  PRIMARY KEY (tenant, promotion, name),
  FOREIGN KEY (tenant, promotion) REFERENCES promotions
);

-- How many promotions are changing a cluster. It is raised and lowered in the
-- transaction that starts or ends one, so the limit holds across processes.
CREATE TABLE clusters (
  tenant      text NOT NULL,
  environment text NOT NULL,
  cluster     text NOT NULL,
  running     int NOT NULL CHECK (running >= 0),
  PRIMARY KEY (tenant, environment, cluster)
);

-- Readings of instances, one for each span of time: short while the slot is
-- held, long otherwise. Looking for drift throws away those of over an hour ago.
CREATE TABLE samples (
  tenant      text NOT NULL,
  environment text NOT NULL,
  deployment  text NOT NULL,
  node        text NOT NULL,
  instance    text NOT NULL, -- digest
  span        bigint NOT NULL, -- Unix seconds of its beginning
  at          timestamptz NOT NULL,
  sample      jsonb NOT NULL,
  PRIMARY KEY (tenant, environment, deployment, node, instance, span)
);

-- Differences between what is recorded and what units report.
CREATE TABLE findings (
  tenant      text NOT NULL,
  environment text NOT NULL,
  deployment  text NOT NULL,
  node        text NOT NULL,
  kind        text NOT NULL,
  since       timestamptz NOT NULL,
  detail      text NOT NULL,
  closed_at   timestamptz,
  PRIMARY KEY (tenant, environment, deployment, node, kind, since)
);
CREATE UNIQUE INDEX findings_open ON findings (tenant, environment, deployment, node, kind) WHERE closed_at IS NULL;

-- What Git is to say about each slot. It is written there when recorded = version.
CREATE TABLE records (
  tenant      text NOT NULL,
  environment text NOT NULL,
  deployment  text NOT NULL,
  repository  text NOT NULL,
  document    jsonb NOT NULL,
  version     bigint NOT NULL DEFAULT 1,
  recorded    bigint NOT NULL DEFAULT 0, -- version that Git has
  commit      text NOT NULL DEFAULT '',  -- that brought it there
  PRIMARY KEY (tenant, environment, deployment)
);
CREATE INDEX records_open ON records (tenant, repository) WHERE recorded < version;
ALTER TABLE repositories ADD COLUMN records_tip text NOT NULL DEFAULT ''; -- newest commit of ours on the records' branch

-- +goose StatementBegin
DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['holds', 'checks', 'clusters', 'samples', 'findings', 'records'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY tenant ON %I USING (tenant = tenant()) WITH CHECK (tenant = tenant())', name);
    EXECUTE format('ALTER TABLE %I OWNER TO hotswap_owner', name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I TO hotswap_app', name);
  END LOOP;
END $$;

-- raise_epoch says that the database was restored from a backup: orders from now
-- on are newer than all that nodes have seen, whatever was lost.
CREATE FUNCTION raise_epoch() RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  UPDATE installation SET epoch = epoch + 1 RETURNING epoch
$$;
-- +goose StatementEnd
GRANT DELETE ON holds, samples TO hotswap_app;
ALTER FUNCTION raise_epoch() OWNER TO hotswap_owner;
REVOKE ALL ON FUNCTION raise_epoch() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION raise_epoch() TO hotswap_app;
