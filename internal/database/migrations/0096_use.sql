-- +goose Up
ALTER TABLE disk ADD COLUMN own_charge BOOLEAN NOT NULL DEFAULT FALSE; -- a system disk that pays for itself: it was there before its machine
