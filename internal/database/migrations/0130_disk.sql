-- +goose Up
-- Disks that were bought by themselves, and their snapshots, were in no project group.
UPDATE disk SET project = 'project-' || substr('00000000000000' || CAST(company AS TEXT), length(CAST(company AS TEXT)) + 1) WHERE project = '' AND company <> 0;
UPDATE snapshot SET project = (SELECT project FROM disk WHERE disk.id = snapshot.disk_id)
    WHERE project = '' AND EXISTS (SELECT 1 FROM disk WHERE disk.id = snapshot.disk_id);
UPDATE charge SET project = (SELECT project FROM disk WHERE disk.id = charge.resource_id)
    WHERE project = '' AND EXISTS (SELECT 1 FROM disk WHERE disk.id = charge.resource_id);
-- Their rows did not follow the switch of automatic renewal.
UPDATE disk SET auto_renew = (SELECT auto_renew FROM charge WHERE charge.resource_id = disk.id)
    WHERE EXISTS (SELECT 1 FROM charge WHERE charge.resource_id = disk.id);
-- Why a run failed was a text in one language; what is there stays as it is.
ALTER TABLE timer_task ADD COLUMN code BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE timer_task DROP COLUMN code;
