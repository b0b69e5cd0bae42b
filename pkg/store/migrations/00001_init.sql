-- +goose Up
-- +goose StatementBegin
DO $$
DECLARE name text;
BEGIN
  -- Roles belong to the whole cluster: another database of ours may have made them.
  FOREACH name IN ARRAY ARRAY['hotswap_owner', 'hotswap_claim'] LOOP
    BEGIN
      EXECUTE format('CREATE ROLE %I NOLOGIN', name);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
  END LOOP;
  BEGIN
    CREATE ROLE hotswap_app LOGIN NOBYPASSRLS;
  EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
  END;
END $$;
-- +goose StatementEnd

-- What every tenant's row is allowed to be seen by: the tenant that the
-- transaction named. No name, no rows.
CREATE FUNCTION tenant() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
  AS $$ SELECT nullif(current_setting('hotswap.tenant', true), '') $$;

CREATE TABLE installation (
  one        boolean PRIMARY KEY DEFAULT true CHECK (one),
  epoch      bigint NOT NULL DEFAULT 1, -- rises when the database is restored from a backup
  created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO installation DEFAULT VALUES;

-- The only thing that a claim sees. No business data.
CREATE TABLE due (
  tenant      text NOT NULL,
  kind        text NOT NULL CHECK (kind IN ('inbox', 'repository', 'release', 'promotion')),
  id          text NOT NULL,
  wake_at     timestamptz NOT NULL,
  lease_until timestamptz,
  fence       bigint NOT NULL DEFAULT 0,
  pokes       bigint NOT NULL DEFAULT 0,
  attempts    int NOT NULL DEFAULT 0, -- in a row that ended with an error
  PRIMARY KEY (tenant, kind, id)
) WITH (fillfactor = 70);
CREATE INDEX due_wake ON due (tenant, wake_at);

CREATE TABLE repositories (
  tenant     text NOT NULL,
  name       text NOT NULL,
  branch     text NOT NULL,
  synced     text NOT NULL DEFAULT '', -- commit; empty: nothing yet
  synced_at  timestamptz,
  waiting    jsonb,
  version    bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant, name)
);

CREATE TABLE inbox (
  tenant      text NOT NULL,
  source      text NOT NULL,
  delivery    text NOT NULL,
  repository  text NOT NULL,
  event       text NOT NULL,
  headers     jsonb NOT NULL,
  body        bytea, -- null when it was too large to keep
  digest      bytea NOT NULL,
  state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'dead')),
  note        text NOT NULL DEFAULT '',
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, source, delivery)
);

CREATE TABLE environments (
  tenant     text NOT NULL,
  name       text NOT NULL,
  repository text NOT NULL,
  document   jsonb NOT NULL,
  selector   jsonb NOT NULL,
  commit     text NOT NULL,
  PRIMARY KEY (tenant, name)
);

CREATE TABLE releases (
  tenant     text NOT NULL,
  id         text NOT NULL,
  deployment text NOT NULL,
  generation bigint NOT NULL,
  repository text NOT NULL,
  commit     text NOT NULL,
  snapshot   jsonb NOT NULL,
  digest     text NOT NULL,
  state      text NOT NULL DEFAULT 'open',
  version    bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  UNIQUE (tenant, deployment, generation)
);

CREATE TABLE promotions (
  tenant      text NOT NULL,
  id          text NOT NULL,
  release     text NOT NULL,
  stage       text NOT NULL,
  kind        text NOT NULL,
  attempt     int NOT NULL,
  deployment  text NOT NULL,
  environment text NOT NULL,
  generation  bigint NOT NULL,
  spec        jsonb NOT NULL,
  status      text NOT NULL,
  phase       text NOT NULL,
  wave        int NOT NULL,
  version     bigint NOT NULL,
  token       bigint NOT NULL,
  plan        text NOT NULL,
  units       jsonb NOT NULL,
  ending      text NOT NULL,
  reason      text NOT NULL,
  since       timestamptz NOT NULL,
  waiting_for jsonb,
  created_at  timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  PRIMARY KEY (tenant, id),
  UNIQUE (tenant, release, stage, kind, attempt),
  FOREIGN KEY (tenant, release) REFERENCES releases,
  CHECK (finished_at IS NOT NULL OR waiting_for IS NOT NULL) -- whoever waits says for what
);
CREATE INDEX promotions_slot ON promotions (tenant, environment, deployment, generation) WHERE finished_at IS NULL;
CREATE INDEX promotions_newest ON promotions (tenant, created_at DESC);

CREATE TABLE transitions (
  tenant       text NOT NULL,
  promotion    text NOT NULL,
  from_version bigint NOT NULL,
  at           timestamptz NOT NULL,
  event        jsonb NOT NULL,
  outcome      jsonb NOT NULL,
  PRIMARY KEY (tenant, promotion, from_version)
);

CREATE TABLE slots (
  tenant      text NOT NULL,
  environment text NOT NULL,
  deployment  text NOT NULL,
  holder      text,
  token       bigint NOT NULL DEFAULT 0,
  started     bigint NOT NULL DEFAULT 0,
  dirty       boolean NOT NULL DEFAULT false,
  PRIMARY KEY (tenant, environment, deployment)
);

CREATE TABLE join_tokens (
  tenant     text NOT NULL,
  hash       bytea NOT NULL, -- SHA-256 of the token
  labels     jsonb NOT NULL,
  expires_at timestamptz NOT NULL,
  used_by    text,
  PRIMARY KEY (tenant, hash)
);

CREATE TABLE nodes (
  tenant     text NOT NULL,
  name       text NOT NULL,
  labels     jsonb NOT NULL,
  public_key bytea NOT NULL,
  agent      text NOT NULL DEFAULT '',
  boot       bigint NOT NULL DEFAULT 0,
  seq        bigint NOT NULL DEFAULT 0,
  joined_at  timestamptz NOT NULL DEFAULT now(),
  last_seen  timestamptz,
  left_at    timestamptz,
  PRIMARY KEY (tenant, name)
);
CREATE INDEX nodes_labels ON nodes USING gin (labels jsonb_path_ops);

CREATE TABLE wanted (
  tenant      text NOT NULL,
  node        text NOT NULL,
  environment text NOT NULL,
  deployment  text NOT NULL,
  epoch       bigint NOT NULL,
  token       bigint NOT NULL,
  generation  bigint NOT NULL,
  active      jsonb,
  standby     jsonb,
  promotion   text NOT NULL,
  at          timestamptz NOT NULL,
  PRIMARY KEY (tenant, node, environment, deployment)
);

CREATE TABLE reports (
  tenant      text NOT NULL,
  node        text NOT NULL,
  environment text NOT NULL,
  deployment  text NOT NULL,
  report      jsonb NOT NULL,
  seen        timestamptz NOT NULL,
  PRIMARY KEY (tenant, node, environment, deployment)
);

CREATE TABLE live (
  tenant      text NOT NULL,
  environment text NOT NULL,
  deployment  text NOT NULL,
  node        text NOT NULL,
  instance    jsonb,
  promotion   text NOT NULL,
  at          timestamptz NOT NULL,
  PRIMARY KEY (tenant, environment, deployment, node)
);

CREATE TABLE statuses (
  tenant      text NOT NULL,
  repository  text NOT NULL,
  commit      text NOT NULL,
  context     text NOT NULL,
  state       text NOT NULL CHECK (state IN ('success', 'failure')),
  description text NOT NULL,
  detail      text NOT NULL DEFAULT '',
  at          timestamptz NOT NULL,
  PRIMARY KEY (tenant, repository, commit, context)
);

-- Rows of the audit trail. Header is what was signed, byte for byte; the other
-- columns are computed from it, so they cannot say anything else.
CREATE TABLE audit (
  month     date NOT NULL,
  tenant    text NOT NULL,
  id        text NOT NULL,
  header    text NOT NULL,
  writer    text NOT NULL,
  signature bytea NOT NULL,
  action    text NOT NULL GENERATED ALWAYS AS (header::jsonb ->> 'action') STORED,
  actor     text NOT NULL GENERATED ALWAYS AS (header::jsonb #>> '{actor,name}') STORED,
  promotion text GENERATED ALWAYS AS (header::jsonb ->> 'promotion') STORED,
  PRIMARY KEY (month, tenant, id)
) PARTITION BY RANGE (month);
CREATE TABLE audit_default PARTITION OF audit DEFAULT;
CREATE INDEX audit_promotion ON audit (tenant, promotion);
CREATE INDEX audit_action ON audit (tenant, action);

CREATE TABLE audit_leaves (
  tenant   text NOT NULL,
  log      text NOT NULL, -- tenant/2026-01
  position bigint NOT NULL,
  month    date NOT NULL,
  id       text NOT NULL,
  hash     bytea NOT NULL,
  PRIMARY KEY (log, position),
  UNIQUE (tenant, month, id)
);

CREATE TABLE audit_heads (
  tenant     text NOT NULL,
  log        text NOT NULL,
  size       bigint NOT NULL,
  edge       bytea NOT NULL,
  checkpoint text NOT NULL, -- signed note over size and root
  PRIMARY KEY (tenant, log)
);

-- A lease that one invocation holds so that the others need not wait too.
CREATE TABLE leases (
  name   text PRIMARY KEY,
  holder text NOT NULL,
  until  timestamptz NOT NULL
);

-- +goose StatementBegin
-- claim_due leases up to n rows that are due, fair across tenants: everyone's
-- first before anyone's second. Tenants are found by skipping along the index,
-- so idle rows cost nothing.
CREATE FUNCTION claim_due(kinds text[], n int, lease interval)
RETURNS TABLE (tenant text, kind text, id text, fence bigint, pokes bigint, attempts int)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  WITH RECURSIVE tenants(name) AS (
    (SELECT d.tenant FROM due d ORDER BY d.tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT d.tenant FROM due d WHERE d.tenant > t.name ORDER BY d.tenant LIMIT 1)
    FROM tenants t WHERE t.name IS NOT NULL
  ), candidates AS (
    SELECT c.* FROM tenants t CROSS JOIN LATERAL (
      SELECT d.tenant, d.kind, d.id, d.wake_at, row_number() OVER (ORDER BY d.wake_at) AS turn
      FROM due d
      WHERE d.tenant = t.name AND d.kind = ANY (kinds)
        AND d.wake_at <= now() AND (d.lease_until IS NULL OR d.lease_until <= now())
      ORDER BY d.wake_at LIMIT 4 * n
    ) c
    WHERE t.name IS NOT NULL
    ORDER BY c.turn, c.wake_at LIMIT 16 * n
  ), locked AS (
    SELECT d.tenant, d.kind, d.id
    FROM due d JOIN candidates c ON (c.tenant, c.kind, c.id) = (d.tenant, d.kind, d.id)
    WHERE d.wake_at <= now() AND (d.lease_until IS NULL OR d.lease_until <= now())
    ORDER BY c.turn, c.wake_at
    LIMIT n
    FOR UPDATE OF d SKIP LOCKED
  )
  UPDATE due d SET lease_until = now() + lease, fence = d.fence + 1
  FROM locked l WHERE (l.tenant, l.kind, l.id) = (d.tenant, d.kind, d.id)
  RETURNING d.tenant, d.kind, d.id, d.fence, d.pokes, d.attempts
$$;

-- next_due says when the next row is due, null when there is none.
CREATE FUNCTION next_due(kinds text[]) RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT min(greatest(d.wake_at, d.lease_until)) FROM due d WHERE d.kind = ANY (kinds)
$$;

-- tenants_with_rows lists the tenants that have unsequenced audit rows, for the tick.
CREATE FUNCTION unsequenced() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT DISTINCT a.tenant FROM audit a
  WHERE a.month >= date_trunc('month', now()) - interval '1 month'
    AND NOT EXISTS (SELECT FROM audit_leaves l WHERE (l.tenant, l.month, l.id) = (a.tenant, a.month, a.id))
$$;

-- audit_partition makes the partition of a month. Rows that came before it was
-- made are in the default partition and stay there.
CREATE FUNCTION audit_partition(month date) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  first date := date_trunc('month', month);
  name  text := 'audit_' || to_char(first, 'YYYY_MM');
BEGIN
  -- One at a time, and never waiting: the next tick comes soon.
  IF NOT pg_try_advisory_xact_lock(hashtextextended('hotswap audit partition', 0)) THEN
    RETURN;
  END IF;
  IF to_regclass(name) IS NOT NULL OR EXISTS (SELECT FROM audit_default a WHERE a.month = first) THEN
    RETURN;
  END IF;
  EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF audit FOR VALUES FROM (%L) TO (%L)', name, first, first + interval '1 month');
END $$;

-- Row-level security, ownership and rights. The application role owns nothing,
-- cannot bypass the policies, and can neither change nor remove a transition or
-- an audit row.
DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['due', 'repositories', 'inbox', 'environments', 'releases', 'promotions', 'transitions',
      'slots', 'join_tokens', 'nodes', 'wanted', 'reports', 'live', 'statuses', 'audit', 'audit_leaves', 'audit_heads'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY tenant ON %I USING (tenant = tenant()) WITH CHECK (tenant = tenant())', name);
    EXECUTE format('ALTER TABLE %I OWNER TO hotswap_owner', name);
    EXECUTE format('GRANT SELECT, INSERT ON %I TO hotswap_app', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['due', 'repositories', 'inbox', 'environments', 'releases', 'promotions', 'slots',
      'join_tokens', 'nodes', 'wanted', 'reports', 'live', 'statuses', 'audit_heads'] LOOP
    EXECUTE format('GRANT UPDATE ON %I TO hotswap_app', name);
  END LOOP;
END $$;
-- +goose StatementEnd
ALTER TABLE audit_default OWNER TO hotswap_owner;
ALTER TABLE installation OWNER TO hotswap_owner;
ALTER TABLE leases OWNER TO hotswap_owner;
GRANT DELETE ON due TO hotswap_app;
GRANT SELECT ON installation TO hotswap_app;
GRANT SELECT, INSERT, UPDATE ON leases TO hotswap_app;
GRANT USAGE, CREATE ON SCHEMA public TO hotswap_owner;
GRANT USAGE ON SCHEMA public TO hotswap_app, hotswap_claim;

CREATE POLICY claim ON due TO hotswap_claim USING (true);
CREATE POLICY claim ON audit FOR SELECT TO hotswap_claim USING (true);
CREATE POLICY claim ON audit_leaves FOR SELECT TO hotswap_claim USING (true);
GRANT SELECT, UPDATE ON due TO hotswap_claim;
GRANT SELECT ON audit, audit_leaves TO hotswap_claim;
GRANT EXECUTE ON FUNCTION tenant() TO hotswap_claim, hotswap_app, hotswap_owner;

ALTER FUNCTION claim_due(text[], int, interval) OWNER TO hotswap_claim;
ALTER FUNCTION next_due(text[]) OWNER TO hotswap_claim;
ALTER FUNCTION unsequenced() OWNER TO hotswap_claim;
ALTER FUNCTION audit_partition(date) OWNER TO hotswap_owner;
REVOKE ALL ON FUNCTION claim_due(text[], int, interval), next_due(text[]), unsequenced(), audit_partition(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_due(text[], int, interval), next_due(text[]), unsequenced(), audit_partition(date) TO hotswap_app;

-- Every statement of the application has a deadline, whatever its client does.
ALTER ROLE hotswap_app SET statement_timeout = '10s';
ALTER ROLE hotswap_app SET lock_timeout = '5s';
ALTER ROLE hotswap_app SET idle_in_transaction_session_timeout = '15s';
