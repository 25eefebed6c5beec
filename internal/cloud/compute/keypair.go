package compute

import (
	"context"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/pem"
	"slices"
	"strings"

	"github.com/uptrace/bun"
	"golang.org/x/crypto/ssh"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// KeyPair is a row of SSH public keys. The private one is with its owner alone.
type KeyPair struct {
	bun.BaseModel `bun:"table:keypair"`

	ID          string `bun:"id,pk"`
	Region      string `bun:"region"`
	Company     int64  `bun:"company"`
	Project     string `bun:"project"`
	Name        string `bun:"name"`
	Remark      string `bun:"remark"`
	PublicKey   string `bun:"public_key"`
	Kind        string `bun:"kind"`
	Fingerprint string `bun:"fingerprint"`
	CreatedAt   int64  `bun:"created_at"`
	UpdatedAt   int64  `bun:"updated_at"`
}

// vmKeyPair: the key pair is in the machine's guest.
type vmKeyPair struct {
	bun.BaseModel `bun:"table:vm_keypair"`

	VMID      string `bun:"vm_id,pk"`
	KeyPairID string `bun:"keypair_id,pk"`
}

// maxKeyPairs of one machine, and of a tenant in a region.
const (
	maxKeyPairs       = 20
	maxTenantKeyPairs = 100
)

// shortestRSA is in bits.
const shortestRSA = 2048

// parseKey reads a line of authorized_keys: 4 when it is none. Options and comment are dropped: the line goes
// into guests of others' making.
func parseKey(line string) (ssh.PublicKey, error) {
	if strings.ContainsAny(strings.TrimSpace(line), "\r\n\x00") || len(line) > 16<<10 {
		return nil, retcode.InvalidParameterFormat.Errorf("KeyPairPublicKey must be one line of OpenSSH's form")
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || len(options) > 0 || len(rest) > 0 {
		return nil, retcode.InvalidParameterFormat.Errorf("KeyPairPublicKey must be one line of OpenSSH's form")
	}
	return key, nil
}

// keyLine is a key as authorized_keys has it.
func keyLine(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// checkKey refuses keys that are too weak (113).
func checkKey(key ssh.PublicKey) error {
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		if bits := rsaBits(key); bits < shortestRSA {
			return retcode.InvalidParameter.Errorf("KeyPairPublicKey: RSA keys have at least %d bits, not %d", shortestRSA, bits)
		}
		return nil
	}
	return retcode.InvalidParameter.Errorf("KeyPairPublicKey: keys of type %s are not taken", key.Type())
}

func rsaBits(key ssh.PublicKey) int {
	if k, ok := key.(ssh.CryptoPublicKey); ok {
		if r, ok := k.CryptoPublicKey().(*rsa.PublicKey); ok {
			return r.N.BitLen()
		}
	}
	return 0
}

// newKey makes a pair: the line of the public key, and the private one in OpenSSH's form.
func newKey(comment string) (key ssh.PublicKey, private string, err error) {
	public, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, "", err
	}
	if key, err = ssh.NewPublicKey(public); err != nil {
		return nil, "", err
	}
	block, err := ssh.MarshalPrivateKey(secret, comment)
	if err != nil {
		return nil, "", err
	}
	return key, string(pem.EncodeToMemory(block)), nil
}

// keyPairByID finds a key pair of a scope: 200.
func keyPairByID(ctx context.Context, idb bun.IDB, scope action.Scope, id string) (*KeyPair, error) {
	rows, err := database.Find[KeyPair](ctx, idb, "WHERE id = ?", id)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || !scope.Holds(rows[0].Region, rows[0].Company, rows[0].Project) {
		return nil, retcode.ResourceNotFound.Errorf("KeyPairID %s", id)
	}
	return &rows[0], nil
}

// keyPairs checks that the named ones are in the scope (200) and not too many (208), and answers them without repetition.
func (s *Service) keyPairs(ctx context.Context, idb bun.IDB, scope action.Scope, ids []string) ([]string, error) {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	if len(ids) == 0 {
		return nil, nil
	}
	if len(ids) > maxKeyPairs {
		return nil, retcode.BindLimitReached.Errorf("a machine takes %d key pairs", maxKeyPairs)
	}
	var found []string
	if err := identity.Own(idb.NewSelect().Model((*KeyPair)(nil)).Column("id").Where("id IN (?)", bun.In(ids)), scope).Scan(ctx, &found); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if !slices.Contains(found, id) {
			return nil, retcode.ResourceNotFound.Errorf("KeyPairIDs: %s", id)
		}
	}
	return ids, nil
}

// addKeys notes that key pairs are in a machine, replaceKeys that these and no others are.
func addKeys(ctx context.Context, tx bun.Tx, vm string, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	rows := make([]vmKeyPair, len(ids))
	for i, id := range ids {
		rows[i] = vmKeyPair{VMID: vm, KeyPairID: id}
	}
	_, err := tx.NewInsert().Model(&rows).On("CONFLICT (vm_id, keypair_id) DO NOTHING").Exec(ctx)
	return err
}

func replaceKeys(ctx context.Context, tx bun.Tx, vm string, ids []string) error {
	if _, err := tx.NewDelete().Model((*vmKeyPair)(nil)).Where("vm_id = ?", vm).Exec(ctx); err != nil {
		return err
	}
	return addKeys(ctx, tx, vm, ids)
}

// keysOf are the lines of a machine's keys, in a fixed order.
func keysOf(ctx context.Context, idb bun.IDB, vm string) (lines []string, err error) {
	keys, err := database.Query[KeyPair](ctx, idb, "SELECT k.public_key FROM keypair AS k JOIN vm_keypair AS m ON m.keypair_id = k.id WHERE m.vm_id = ? ORDER BY k.id", vm)
	for _, k := range keys {
		lines = append(lines, k.PublicKey)
	}
	return lines, err
}

// keyIDsOf lists the key pairs of machines, by machine.
func keyIDsOf(ctx context.Context, idb bun.IDB, vms ...string) (map[string][]string, error) {
	rows, err := database.Find[vmKeyPair](ctx, idb, "WHERE vm_id IN (?) ORDER BY vm_id, keypair_id", vms)
	out := make(map[string][]string, len(vms))
	for _, r := range rows {
		out[r.VMID] = append(out[r.VMID], r.KeyPairID)
	}
	return out, err
}

// forget drops what is noted of a machine that is no more: its keys and discs.
func forget(ctx context.Context, tx bun.Tx, vm string) error {
	for _, model := range []any{(*vmKeyPair)(nil), (*vmISO)(nil), (*seed)(nil)} {
		if _, err := tx.NewDelete().Model(model).Where("vm_id = ?", vm).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// scope is where what is put into a machine comes from: its tenant's, as far as the caller may know of it.
func (v *VM) scope(c *action.Call) action.Scope {
	return action.Scope{Region: v.Region, Company: v.Company, Projects: c.Projects}
}
