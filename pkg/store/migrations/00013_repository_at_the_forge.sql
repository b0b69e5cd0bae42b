-- +goose Up
-- Which repository of the forge it is: a name can be given to another one, the number cannot.
ALTER TABLE repositories
  ADD COLUMN forge_id   text NOT NULL DEFAULT '', -- empty: not bound yet
  ADD COLUMN forge_name text NOT NULL DEFAULT ''; -- full name there, as it was seen last
