-- +goose Up
ALTER TABLE port ADD COLUMN dns TEXT NOT NULL DEFAULT '';  -- servers that DHCP offers in place of the subnet's, comma separated IPv4 addresses
UPDATE port SET dns = (SELECT vm.dns FROM vm WHERE vm.port_id = port.id) WHERE id IN (SELECT port_id FROM vm WHERE dns <> '' AND dns NOT LIKE '%:%');

-- +goose Down
ALTER TABLE port DROP COLUMN dns;
