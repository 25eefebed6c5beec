-- +goose Up
-- Prices that an administrator set; the default book holds where no row is. tiers is a JSON list of
-- {from, to, price}: from and to in the price's unit (to 0: open), price of one unit and period in 1/10,000 yuan.
-- An empty list: not for sale.
CREATE TABLE price (
    region      TEXT   NOT NULL,
    factor      TEXT   NOT NULL, -- CPU, MEMORY, DISK, EIP, GPU
    scope       TEXT   NOT NULL, -- compute set type, storage set type, segment id
    charge_type TEXT   NOT NULL, -- Dynamic, Month, Year
    tiers       TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (region, factor, scope, charge_type)
);

-- What a tenant pays, in percent of the price; without a row 100.
CREATE TABLE discount (
    company     BIGINT NOT NULL,
    region      TEXT   NOT NULL,
    factor      TEXT   NOT NULL,
    scope       TEXT   NOT NULL,
    charge_type TEXT   NOT NULL,
    percent     BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (company, region, factor, scope, charge_type)
);

-- Default quotas become those of a region. Rows that are missing come from the table in code, with the next start.
CREATE TABLE quota_default_of_region (
    region     TEXT   NOT NULL,
    factor     TEXT   NOT NULL,
    value      BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (region, factor)
);
INSERT INTO quota_default_of_region (region, factor, value, updated_at)
    SELECT r.id, d.factor, d.value, 0 FROM region r CROSS JOIN quota_default d;
DROP TABLE quota_default;
ALTER TABLE quota_default_of_region RENAME TO quota_default;
ALTER TABLE quota ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;

-- +goose Down
CREATE TABLE quota_default_of_all (
    factor TEXT   PRIMARY KEY,
    value  BIGINT NOT NULL
);
INSERT INTO quota_default_of_all (factor, value) SELECT factor, max(value) FROM quota_default GROUP BY factor;
DROP TABLE quota_default;
ALTER TABLE quota_default_of_all RENAME TO quota_default;
ALTER TABLE quota DROP COLUMN updated_at;
DROP TABLE discount;
DROP TABLE price;
