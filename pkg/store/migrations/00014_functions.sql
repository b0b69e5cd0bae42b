-- +goose Up
-- Calls between functions that have come, so that a copy of one is refused. Nothing of a
-- tenant is in it.
CREATE TABLE function_calls (
  key     text NOT NULL,
  request text NOT NULL,
  at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (key, request)
);
CREATE INDEX function_calls_at ON function_calls (at);
ALTER TABLE function_calls OWNER TO hotswap_owner;
GRANT SELECT, INSERT, UPDATE, DELETE ON function_calls TO hotswap_app;

-- Asynchronous calls of the embedded platform's functions: accepted, then made until the
-- function has answered, then told to the callback, if one was named.
CREATE TABLE async_calls (
  id            text PRIMARY KEY,      -- X-Call-Id
  function      text NOT NULL,
  request       jsonb NOT NULL,        -- method, path, query, headers
  body          bytea NOT NULL,
  digest        bytea NOT NULL,        -- of all that was asked for: the same id again is the same call
  callback      text NOT NULL DEFAULT '',
  state         text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'answered', 'done', 'dead')),
  wake_at       timestamptz NOT NULL DEFAULT now(),
  lease_until   timestamptz,
  fence         bigint NOT NULL DEFAULT 0,
  attempts      int NOT NULL DEFAULT 0, -- in this state
  why           text NOT NULL DEFAULT '', -- of the newest failure
  answer        jsonb,                 -- status, headers, seconds
  answer_body   bytea,
  accepted_at   timestamptz NOT NULL DEFAULT now(),
  ended_at      timestamptz
);
CREATE INDEX async_calls_due ON async_calls (wake_at) WHERE state IN ('waiting', 'answered');
CREATE INDEX async_calls_ended ON async_calls (ended_at) WHERE state IN ('done', 'dead');
ALTER TABLE async_calls OWNER TO hotswap_owner;
GRANT SELECT, INSERT, UPDATE, DELETE ON async_calls TO hotswap_app;
