package compute

import (
	"context"
	"slices"

	"github.com/uptrace/bun"
	"golang.org/x/crypto/ssh"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/database"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) keyPairActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "CreateKeyPair", Module: "vm", Mutates: true, Extension: true,
			Summary: "Store an SSH public key, or make a pair and hand the private key out once."}, s.createKeyPair),
		action.Define(action.Spec{Name: "DescribeKeyPair", Module: "vm", Extension: true,
			Summary: "List key pairs."}, s.describeKeyPair),
		action.Define(action.Spec{Name: "DeleteKeyPair", Module: "vm", Mutates: true, Extension: true,
			Summary: "Delete a key pair; keys already in guests stay."}, s.deleteKeyPair),
		action.Define(action.Spec{Name: "BindKeyPair", Module: "vm", Mutates: true, Extension: true,
			Summary: "Put keys into a running virtual machine."}, s.bindKeyPair),
		action.Define(action.Spec{Name: "UnBindKeyPair", Module: "vm", Mutates: true, Extension: true,
			Summary: "Take keys out of a running virtual machine."}, s.unbindKeyPair),
	}
}

type createKeyPairRequest struct {
	Name             string   `validate:"required" doc:"1 to 63 characters"`
	KeyPairPublicKey string   `doc:"a line of OpenSSH's form; empty: an ed25519 pair is made"`
	ProjectID        string   `doc:"project group id"`
	Remark           string   `doc:"at most 100 characters"`
	TagKeyValuePairs []string `doc:"base64(key):base64(value), at most 5"`
	action.Tenant
}

type createKeyPairResponse struct {
	KeyPairID         string
	KeyPairPrivateKey string `doc:"only of a pair that was made here: it is kept nowhere"`
}

func (s *Service) createKeyPair(ctx context.Context, c *action.Call, q *createKeyPairRequest) (*createKeyPairResponse, error) {
	name, err := resource.Name(q.Name)
	if err != nil {
		return nil, err
	}
	remark, err := resource.Remark(q.Remark)
	if err != nil {
		return nil, err
	}
	now := s.Clock.Micros()
	row := &KeyPair{ID: database.NewID("keypair"), Region: c.Region, Company: c.Owner(), Name: name, Remark: remark, CreatedAt: now, UpdatedAt: now}
	out := &createKeyPairResponse{KeyPairID: row.ID}
	var key ssh.PublicKey
	if q.KeyPairPublicKey == "" {
		key, out.KeyPairPrivateKey, err = newKey(row.ID)
	} else if key, err = parseKey(q.KeyPairPublicKey); err == nil {
		err = checkKey(key)
	}
	if err != nil {
		return nil, err
	}
	row.PublicKey, row.Kind, row.Fingerprint = keyLine(key), key.Type(), ssh.FingerprintSHA256(key)
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if row.Project, err = identity.Project(ctx, tx, c, q.ProjectID); err != nil {
			return err
		}
		n, err := tx.NewSelect().Model((*KeyPair)(nil)).Where("region = ? AND company = ?", row.Region, row.Company).Count(ctx)
		if err != nil {
			return err
		}
		if n >= maxTenantKeyPairs {
			return retcode.QuotaExceeded.Errorf("a tenant has at most %d key pairs", maxTenantKeyPairs)
		}
		if _, err := tx.NewInsert().Model(row).Exec(ctx); err != nil {
			return err
		}
		return tag.Attach(ctx, tx, now, resource.Item{ID: row.ID, Company: row.Company, Region: row.Region, Kind: "KeyPair"}, q.TagKeyValuePairs)
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(row.ID)
	return out, nil
}

type describeKeyPairRequest struct {
	KeyPairIDs []string `doc:"key pair ids"`
	VMID       string   `doc:"those in this virtual machine"`
	Keyword    string   `doc:"part of name or id"`
	ProjectIDs []string `doc:"project group ids"`
	action.Tenant
	action.Page
}

type keyPairInfo struct {
	KeyPairID        string
	Name             string
	Remark           string
	KeyPairPublicKey string
	Fingerprint      string
	KeyType          string
	VMCount          int
	CompanyID        int64
	ProjectID        string
	ProjectName      string
	CreateTime       int64
	Tags             []tag.Info
}

type describeKeyPairResponse struct {
	TotalCount int
	Infos      []keyPairInfo
}

func (s *Service) describeKeyPair(ctx context.Context, c *action.Call, q *describeKeyPairRequest) (*describeKeyPairResponse, error) {
	r := s.DB.Reader()
	var rows []KeyPair
	sel := identity.Own(r.NewSelect().Model(&rows), c.Scope())
	if len(q.KeyPairIDs) > 0 {
		sel = sel.Where("id IN (?)", bun.In(q.KeyPairIDs))
	}
	if len(q.ProjectIDs) > 0 {
		sel = sel.Where("project IN (?)", bun.In(q.ProjectIDs))
	}
	if q.VMID != "" {
		if _, err := vmByID(ctx, r, c.Scope(), q.VMID); err != nil {
			return nil, err
		}
		sel = sel.Where("id IN (?)", r.NewSelect().Model((*vmKeyPair)(nil)).Column("keypair_id").Where("vm_id = ?", q.VMID))
	}
	sel = database.Matching(sel, q.Keyword, "name", "id")
	n, err := sel.Count(ctx)
	if err != nil {
		return nil, err
	}
	out := &describeKeyPairResponse{TotalCount: int(n), Infos: []keyPairInfo{}}
	if q.Limit == 0 || q.Offset >= out.TotalCount {
		return out, nil
	}
	if err := sel.OrderExpr("created_at DESC, id").Offset(int64(q.Offset)).Limit(int64(q.Limit)).Scan(ctx); err != nil {
		return nil, err
	}
	ids := make([]string, len(rows))
	for i, k := range rows {
		ids[i] = k.ID
	}
	var counts []struct {
		KeyPairID string `bun:"keypair_id"`
		N         int    `bun:"n"`
	}
	if err := r.NewSelect().Model((*vmKeyPair)(nil)).ColumnExpr("keypair_id, count(*) AS n").Where("keypair_id IN (?)", bun.In(ids)).
		GroupExpr("keypair_id").Scan(ctx, &counts); err != nil {
		return nil, err
	}
	tags, err := tag.Of(ctx, r, ids...)
	if err != nil {
		return nil, err
	}
	projects, err := s.Identity.ProjectNames(ctx, projectsOf(rows, func(k KeyPair) string { return k.Project }))
	if err != nil {
		return nil, err
	}
	for _, k := range rows {
		i := keyPairInfo{KeyPairID: k.ID, Name: k.Name, Remark: k.Remark, KeyPairPublicKey: k.PublicKey, Fingerprint: k.Fingerprint, KeyType: k.Kind,
			CompanyID: k.Company, ProjectID: k.Project, ProjectName: projects[k.Project], CreateTime: seconds(k.CreatedAt), Tags: tags[k.ID]}
		for _, n := range counts {
			if n.KeyPairID == k.ID {
				i.VMCount = n.N
			}
		}
		out.Infos = append(out.Infos, i)
	}
	return out, nil
}

type deleteKeyPairRequest struct {
	KeyPairID string `validate:"required" doc:"key pair id"`
	action.Tenant
}

func (s *Service) deleteKeyPair(ctx context.Context, c *action.Call, q *deleteKeyPairRequest) (*action.Empty, error) {
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		k, err := keyPairByID(ctx, tx, c.Scope(), q.KeyPairID)
		if err != nil {
			return err
		}
		if _, err := tx.NewDelete().Model((*vmKeyPair)(nil)).Where("keypair_id = ?", k.ID).Exec(ctx); err != nil {
			return err
		}
		_, err = tx.NewDelete().Model(k).WherePK().Exec(ctx)
		return err
	})
	if err == nil {
		c.AddResource(q.KeyPairID)
	}
	return nil, err
}

type bindKeyPairRequest struct {
	VMID       string   `validate:"required" doc:"virtual machine id"`
	KeyPairIDs []string `validate:"required" doc:"key pair ids"`
	LoginUser  string   `validate:"omitempty,oneof=root ubuntu debian" doc:"account, default follows the image"`
	action.Tenant
}

func (s *Service) bindKeyPair(ctx context.Context, c *action.Call, q *bindKeyPairRequest) (*action.Empty, error) {
	return nil, s.changeKeys(ctx, c, q, false)
}

func (s *Service) unbindKeyPair(ctx context.Context, c *action.Call, q *bindKeyPairRequest) (*action.Empty, error) {
	return nil, s.changeKeys(ctx, c, q, true)
}

// changeKeys puts keys into a running guest, or takes them out. The row follows the guest: it is what the next
// installation gets.
func (s *Service) changeKeys(ctx context.Context, c *action.Call, q *bindKeyPairRequest, remove bool) error {
	v, err := s.usable(ctx, c, q.VMID)
	if err != nil {
		return err
	}
	ids, err := s.keyPairs(ctx, s.DB.Reader(), v.scope(c), q.KeyPairIDs)
	if err != nil {
		return err
	}
	if windows(v.OSType) {
		return retcode.InvalidVMState.Errorf("%s has no accounts with SSH keys", v.ID)
	}
	user, err := v.account(q.LoginUser)
	if err != nil {
		return err
	}
	if err := v.hasAgent(); err != nil {
		return err
	}
	var there []string
	if err := s.DB.Reader().NewSelect().Model((*vmKeyPair)(nil)).Column("keypair_id").Where("vm_id = ?", v.ID).Scan(ctx, &there); err != nil {
		return err
	}
	added := 0
	for _, id := range ids {
		switch bound := slices.Contains(there, id); {
		case remove && !bound:
			return retcode.ResourceNotFound.Errorf("%s is not in %s", id, v.ID)
		case !bound:
			added++
		}
	}
	if !remove && len(there)+added > maxKeyPairs {
		return retcode.BindLimitReached.Errorf("a machine takes %d key pairs", maxKeyPairs)
	}
	var lines []string
	if err := s.DB.Reader().NewSelect().Model((*KeyPair)(nil)).Column("public_key").Where("id IN (?)", bun.In(ids)).OrderExpr("id").Scan(ctx, &lines); err != nil {
		return err
	}
	if _, err := s.Fleet.Host(v.HostID).SetGuestKeys(ctx, &pb.SetGuestKeysRequest{Id: v.ID, User: user, SshKeys: lines, Remove: remove}); err != nil {
		return guestFailure(v, err, "the keys could not be changed in")
	}
	c.AddResource(append([]string{v.ID}, ids...)...)
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if !remove {
			return addKeys(ctx, tx, v.ID, ids)
		}
		_, err := tx.NewDelete().Model((*vmKeyPair)(nil)).Where("vm_id = ? AND keypair_id IN (?)", v.ID, bun.In(ids)).Exec(ctx)
		return err
	})
}
