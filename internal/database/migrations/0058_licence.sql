-- +goose Up
-- The licence that holds for a region, as it was uploaded. None: the region is not activated.
CREATE TABLE licence (
    region     TEXT   PRIMARY KEY,
    id         TEXT   NOT NULL,
    file       TEXT   NOT NULL, -- the signed file
    ends_at    BIGINT NOT NULL, -- unix microseconds; 0: never
    updated_at BIGINT NOT NULL
);

-- +goose Down
DROP TABLE licence;
