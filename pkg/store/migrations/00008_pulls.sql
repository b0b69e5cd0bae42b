-- +goose Up
-- Effects are made, and promotion pull requests are kept, like any other work that is due.
ALTER TABLE due DROP CONSTRAINT due_kind_check,
  ADD CHECK (kind IN ('inbox', 'repository', 'release', 'promotion', 'slot', 'record', 'effect', 'pull'));

-- What Git has of a slot from the merge of a promotion pull request until that promotion has ended.
ALTER TABLE records ADD COLUMN proposal jsonb;

-- What is done to the outside, once: the key is of the promotion, the kind, the subject and the try.
CREATE TABLE effects (
  tenant    text NOT NULL,
  key       text NOT NULL,
  kind      text NOT NULL CHECK (kind IN ('merge')),
  promotion text NOT NULL,
  pull      bigint NOT NULL,
  head      text NOT NULL,
  state     text NOT NULL CHECK (state IN ('due', 'uncertain', 'done', 'failed')),
  commit    text NOT NULL DEFAULT '',
  why       text NOT NULL DEFAULT '',
  asked     int NOT NULL DEFAULT 0, -- how often the outside was asked
  at        timestamptz NOT NULL,
  PRIMARY KEY (tenant, key),
  FOREIGN KEY (tenant, promotion) REFERENCES promotions
);

-- The pull request of a slot: the living one, for the promotion that is next, and the
-- one that was merged last, whose comment follows its promotion to the end.
CREATE TABLE pulls (
  tenant      text NOT NULL,
  environment text NOT NULL,
  deployment  text NOT NULL,
  repository  text NOT NULL,
  promotion   text NOT NULL DEFAULT '',
  plan        text NOT NULL DEFAULT '', -- digest that the head shows
  number      bigint NOT NULL DEFAULT 0,
  url         text NOT NULL DEFAULT '',
  head        text NOT NULL DEFAULT '',
  proposal    jsonb,                    -- record that the head shows
  review      jsonb,                    -- what the reviews came to when they were read last
  asked       text NOT NULL DEFAULT '', -- head that reviewers were asked for
  merged_promotion text NOT NULL DEFAULT '',
  merged_number    bigint NOT NULL DEFAULT 0,
  version     bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant, environment, deployment)
);
CREATE INDEX pulls_number ON pulls (tenant, repository, number) WHERE number <> 0;

-- Approvals that were given past the forge: by API, or by breaking the glass.
CREATE TABLE approvals (
  tenant    text NOT NULL,
  source    text NOT NULL CHECK (source IN ('api', 'break-glass')),
  subject   text NOT NULL, -- promotion, actor and plan: each is given once
  promotion text NOT NULL,
  actor     text NOT NULL,
  role      text NOT NULL,
  head      text NOT NULL,
  plan      text NOT NULL,
  reason    text NOT NULL,
  statement jsonb NOT NULL, -- what was signed, and the signature
  at        timestamptz NOT NULL,
  PRIMARY KEY (tenant, source, subject),
  FOREIGN KEY (tenant, promotion) REFERENCES promotions
);

-- +goose StatementBegin
DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['effects', 'pulls', 'approvals'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY tenant ON %I USING (tenant = tenant()) WITH CHECK (tenant = tenant())', name);
    EXECUTE format('ALTER TABLE %I OWNER TO hotswap_owner', name);
    EXECUTE format('GRANT SELECT, INSERT ON %I TO hotswap_app', name);
  END LOOP;
END $$;
-- +goose StatementEnd
GRANT UPDATE ON effects, pulls TO hotswap_app;
