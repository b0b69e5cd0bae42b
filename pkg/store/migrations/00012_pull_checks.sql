-- +goose Up
-- People's pull requests are checked like any other work that is due. There is a row only where there is a forge.
ALTER TABLE due DROP CONSTRAINT due_kind_check,
  ADD CHECK (kind IN ('inbox', 'repository', 'release', 'promotion', 'slot', 'record', 'effect', 'pull', 'check'));

-- What was told on people's pull requests: of which commits, and of a merged one until its releases have ended.
CREATE TABLE pull_checks (
  tenant     text NOT NULL,
  repository text NOT NULL,
  number     bigint NOT NULL,           -- of the pull request; 0: the branch itself
  head       text NOT NULL,
  against    text NOT NULL,             -- commit of the branch that it was merged onto to look at it
  told       boolean NOT NULL,          -- there is a comment
  merge      text NOT NULL DEFAULT '',  -- commit that it was merged as
  retry_at   timestamptz,               -- it could not be looked at; not tried again before
  PRIMARY KEY (tenant, repository, number)
);
ALTER TABLE pull_checks ENABLE ROW LEVEL SECURITY;
ALTER TABLE pull_checks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON pull_checks USING (tenant = tenant()) WITH CHECK (tenant = tenant());
ALTER TABLE pull_checks OWNER TO hotswap_owner;
GRANT SELECT, INSERT, UPDATE, DELETE ON pull_checks TO hotswap_app;
