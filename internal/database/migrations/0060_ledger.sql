-- +goose Up
-- Money is an integer of 1/10,000 yuan. A tenant's accounts; the sum of all balances is 0, and what
-- a balance is follows from the transfers.
CREATE TABLE ledger_account (
    company BIGINT NOT NULL,
    kind    TEXT   NOT NULL, -- REAL, FREE, HELD_REAL, HELD_FREE, REVENUE, REFUNDS, OUTSIDE, GIFTS
    balance BIGINT NOT NULL,
    lowest  BIGINT NOT NULL, -- no statement takes the balance below it
    PRIMARY KEY (company, kind)
);
-- Tenants that are there already pay from now on, too.
INSERT INTO ledger_account (company, kind, balance, lowest)
    SELECT t.id, k.kind, 0, k.lowest FROM tenant AS t CROSS JOIN (
        SELECT 'REAL' AS kind, 0 AS lowest UNION ALL SELECT 'FREE', 0 UNION ALL SELECT 'HELD_REAL', 0 UNION ALL SELECT 'HELD_FREE', 0
        UNION ALL SELECT 'REVENUE', 0 UNION ALL SELECT 'REFUNDS', -4000000000000000000
        UNION ALL SELECT 'OUTSIDE', -4000000000000000000 UNION ALL SELECT 'GIFTS', -4000000000000000000
    ) AS k;

-- Money that moved from one account of a tenant to another. Never changed.
CREATE TABLE ledger_transfer (
    id         TEXT   PRIMARY KEY, -- what it was for: the same twice is one
    company    BIGINT NOT NULL,
    source     TEXT   NOT NULL,
    target     TEXT   NOT NULL,
    amount     BIGINT NOT NULL,
    order_id   TEXT   NOT NULL,    -- or that of a recharge or withdrawal
    created_at BIGINT NOT NULL
);
CREATE INDEX ledger_transfer_order ON ledger_transfer (order_id);
CREATE INDEX ledger_transfer_company ON ledger_transfer (company, created_at);

-- What a tenant sees of its balances' movements.
CREATE TABLE ledger_trade (
    id         TEXT   PRIMARY KEY,
    company    BIGINT NOT NULL,
    region     TEXT   NOT NULL,
    project    TEXT   NOT NULL,
    type       TEXT   NOT NULL, -- CHARGE, REFUND, RECHARGE, FREE_RECHARGE, WITHDRAW, FREE_WITHDRAW
    order_id   TEXT   NOT NULL, -- or that of a recharge or withdrawal
    amount     BIGINT NOT NULL, -- below 0: an expense
    real_after BIGINT NOT NULL, -- balances after it, with what is held
    free_after BIGINT NOT NULL,
    account    BIGINT NOT NULL, -- who did it; 0: the cloud by itself
    created_at BIGINT NOT NULL
);
CREATE INDEX ledger_trade_company ON ledger_trade (company, created_at, id);
CREATE INDEX ledger_trade_created ON ledger_trade (created_at, id);
CREATE INDEX ledger_trade_order ON ledger_trade (order_id);

-- What was bought, renewed, changed and refunded.
CREATE TABLE ledger_order (
    id          TEXT   PRIMARY KEY,
    business    TEXT   NOT NULL, -- what it is for: the same twice is one
    company     BIGINT NOT NULL,
    region      TEXT   NOT NULL,
    project     TEXT   NOT NULL,
    resource_id TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    product     TEXT   NOT NULL,
    type        TEXT   NOT NULL, -- BUY, RENEW, UPGRADE, DOWNGRADE, REFUND
    charge_type TEXT   NOT NULL,
    quantity    BIGINT NOT NULL, -- periods
    items       TEXT   NOT NULL, -- JSON
    paid_real   BIGINT NOT NULL, -- from the external balance; below 0: paid back
    paid_free   BIGINT NOT NULL, -- from the platform's gifts
    state       TEXT   NOT NULL, -- Held, Done, Void
    starts_at   BIGINT NOT NULL, -- what the amount is for
    ends_at     BIGINT NOT NULL,
    created_at  BIGINT NOT NULL
);
CREATE UNIQUE INDEX ledger_order_business ON ledger_order (business);
CREATE INDEX ledger_order_company ON ledger_order (company, created_at, id);
CREATE INDEX ledger_order_created ON ledger_order (created_at, id);
CREATE INDEX ledger_order_resource ON ledger_order (resource_id, ends_at);
CREATE UNIQUE INDEX ledger_order_held ON ledger_order (resource_id) WHERE state = 'Held';
CREATE INDEX ledger_order_rollup ON ledger_order (charge_type, type, created_at);

-- A resource that costs money.
CREATE TABLE charge (
    resource_id TEXT    PRIMARY KEY,
    kind        TEXT    NOT NULL, -- product, as registered
    company     BIGINT  NOT NULL,
    region      TEXT    NOT NULL,
    project     TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    state       TEXT    NOT NULL, -- Held, Valid, Expired, InRecycle, Destroyed
    charge_type TEXT    NOT NULL, -- Dynamic, Month, Year
    items       TEXT    NOT NULL, -- JSON: what the period under way pays for
    next_items  TEXT    NOT NULL, -- JSON: what the next one pays for; empty: the same
    auto_renew  BOOLEAN NOT NULL,
    starts_at   BIGINT  NOT NULL, -- of the paid time without a gap
    ends_at     BIGINT  NOT NULL,
    anchor      BIGINT  NOT NULL, -- calendar months are counted from it,
    months      BIGINT  NOT NULL, -- so many up to ends_at
    due_at      BIGINT  NOT NULL, -- when the cloud has to look at it; 0: never
    enforced    BOOLEAN NOT NULL, -- what expiry does was done
    created_at  BIGINT  NOT NULL,
    updated_at  BIGINT  NOT NULL,
    generation  BIGINT  NOT NULL
);
CREATE INDEX charge_due ON charge (state, due_at) WHERE due_at > 0;
CREATE INDEX charge_company ON charge (company, state, due_at);

CREATE TABLE recharge (
    id         TEXT   PRIMARY KEY,
    company    BIGINT NOT NULL,
    serial     TEXT,            -- order number of the payment; NULL: a gift
    from_type  TEXT   NOT NULL, -- ALIPAY, OFFLINE, SINPAY, WECHAT_PAY, INNER
    type       TEXT   NOT NULL, -- REAL, FREE
    amount     BIGINT NOT NULL,
    account    BIGINT NOT NULL,
    email      TEXT   NOT NULL, -- of the account
    trade_id   TEXT   NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX recharge_serial ON recharge (serial);
CREATE INDEX recharge_created ON recharge (created_at, id);

CREATE TABLE withdrawal (
    id         TEXT   PRIMARY KEY,
    company    BIGINT NOT NULL,
    source     TEXT   NOT NULL, -- REAL, FREE
    amount     BIGINT NOT NULL,
    account    BIGINT NOT NULL,
    email      TEXT   NOT NULL,
    trade_id   TEXT   NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX withdrawal_created ON withdrawal (created_at, id);

-- +goose Down
DROP TABLE withdrawal;
DROP TABLE recharge;
DROP TABLE charge;
DROP TABLE ledger_order;
DROP TABLE ledger_trade;
DROP TABLE ledger_transfer;
DROP TABLE ledger_account;
