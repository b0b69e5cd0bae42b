-- +goose Up
-- The policies of a repository as its branch has them now: document is null when the file is gone, which opens
-- nothing; a file that is not valid leaves what was valid last.
CREATE TABLE policies (
  tenant     text NOT NULL,
  repository text NOT NULL,
  name       text NOT NULL,
  document   jsonb,
  commit     text NOT NULL,
  PRIMARY KEY (tenant, repository, name)
);
ALTER TABLE policies ENABLE ROW LEVEL SECURITY;
ALTER TABLE policies FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON policies USING (tenant = tenant()) WITH CHECK (tenant = tenant());
ALTER TABLE policies OWNER TO hotswap_owner;
GRANT SELECT, INSERT, UPDATE ON policies TO hotswap_app;
