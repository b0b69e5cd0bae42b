-- +goose Up
-- The audit rows that have no leaf yet: written with the row, removed with the
-- leaf, each in one transaction. It is what the sequencer looks at, so that its
-- work does not grow with the trail; verification looks at the rows themselves.
CREATE TABLE audit_pending (
  tenant text NOT NULL,
  month  date NOT NULL,
  id     text NOT NULL,
  PRIMARY KEY (tenant, month, id)
);
INSERT INTO audit_pending (tenant, month, id)
  SELECT a.tenant, a.month, a.id FROM audit a
  WHERE NOT EXISTS (SELECT FROM audit_leaves l WHERE (l.tenant, l.month, l.id) = (a.tenant, a.month, a.id));

ALTER TABLE audit_pending ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_pending FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit_pending USING (tenant = tenant()) WITH CHECK (tenant = tenant());
CREATE POLICY claim ON audit_pending FOR SELECT TO hotswap_claim USING (true);
ALTER TABLE audit_pending OWNER TO hotswap_owner;
GRANT SELECT, INSERT, DELETE ON audit_pending TO hotswap_app;
GRANT SELECT ON audit_pending TO hotswap_claim;

-- A node that comes back with other labels is another node: it must not get the
-- orders of the place that it left.
GRANT DELETE ON wanted, reports TO hotswap_app;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION unsequenced() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  WITH RECURSIVE tenants(name) AS (
    (SELECT p.tenant FROM audit_pending p ORDER BY p.tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT p.tenant FROM audit_pending p WHERE p.tenant > t.name ORDER BY p.tenant LIMIT 1)
    FROM tenants t WHERE t.name IS NOT NULL
  )
  SELECT name FROM tenants WHERE name IS NOT NULL
$$;

-- next_due looks at the first rows of each tenant by wake_at: more of them than
-- are leased at one time, so that one is among them whose wake_at counts.
CREATE OR REPLACE FUNCTION next_due(kinds text[]) RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  WITH RECURSIVE tenants(name) AS (
    (SELECT d.tenant FROM due d ORDER BY d.tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT d.tenant FROM due d WHERE d.tenant > t.name ORDER BY d.tenant LIMIT 1)
    FROM tenants t WHERE t.name IS NOT NULL
  )
  SELECT min(greatest(c.wake_at, c.lease_until)) FROM tenants t CROSS JOIN LATERAL (
    SELECT d.wake_at, d.lease_until FROM due d
    WHERE d.tenant = t.name AND d.kind = ANY (kinds) ORDER BY d.wake_at LIMIT 64
  ) c WHERE t.name IS NOT NULL
$$;
-- +goose StatementEnd

-- What the claim's role read before, it need not read any more.
DROP POLICY claim ON audit;
DROP POLICY claim ON audit_leaves;
REVOKE SELECT ON audit, audit_leaves FROM hotswap_claim;
