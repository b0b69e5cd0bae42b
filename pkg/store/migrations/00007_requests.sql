-- +goose Up
-- What people asked for with a key of their own, so that asking again does nothing again.
CREATE TABLE requests (
  tenant text NOT NULL,
  key    text NOT NULL,
  digest text NOT NULL,                -- over all that was asked for
  answer jsonb NOT NULL DEFAULT '[]',  -- ids of what came of it
  at     timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, key)
);
CREATE INDEX requests_at ON requests (at);
ALTER TABLE requests ENABLE ROW LEVEL SECURITY;
ALTER TABLE requests FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON requests USING (tenant = tenant()) WITH CHECK (tenant = tenant());
ALTER TABLE requests OWNER TO hotswap_owner;
GRANT SELECT, INSERT, UPDATE, DELETE ON requests TO hotswap_app;
