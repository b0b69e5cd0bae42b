-- +goose Up
-- An open release says what it waits for, as every open row does.
ALTER TABLE releases ADD COLUMN waiting_for jsonb DEFAULT '{"what": "its first stages"}';
ALTER TABLE releases ADD CHECK (state <> 'open' OR waiting_for IS NOT NULL);
