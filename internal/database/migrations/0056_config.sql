-- +goose Up
-- Configuration that differs from its default. region is empty for the whole platform.
CREATE TABLE config (
    region     TEXT   NOT NULL,
    key        TEXT   NOT NULL,
    value      TEXT   NOT NULL, -- sealed where it is a secret, base64 where it is a picture
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (region, key)
);

-- +goose Down
DROP TABLE config;
