-- What stands where.

-- migrate:up
CREATE TABLE shelves (id serial PRIMARY KEY, place text NOT NULL);
SET search_path TO public;

-- migrate:down
DROP TABLE shelves;
