-- +goose Up
-- How many promotions change a cluster is seen from the promotions that run. A counter is a row that every
-- beginning and every end must wait for, also where no limit is set.
DROP TABLE clusters;
