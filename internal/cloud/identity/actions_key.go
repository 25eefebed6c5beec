package identity

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) keyActions() []action.Action {
	spec := func(name, summary string, mutates bool) action.Spec {
		return action.Spec{Name: name, Module: "account", Summary: summary, Region: action.RegionNone, Personal: true, Mutates: mutates, Extension: true, Failure: retcode.InternalError}
	}
	return []action.Action{
		action.Define(spec("CreateAPIKey", "Create a key pair for the signature. The private key is shown once.", true), s.createAPIKey),
		action.Define(spec("DescribeAPIKey", "List keys without private parts.", false), s.describeAPIKey),
		action.Define(spec("RotateAPIKey", "Replace both parts of a key; the old pair works for GraceSeconds more.", true), s.rotateAPIKey),
		action.Define(spec("EnableAPIKey", "Let a key sign again.", true), s.switchAPIKey(false)),
		action.Define(spec("DisableAPIKey", "Refuse a key (109).", true), s.switchAPIKey(true)),
		action.Define(spec("DeleteAPIKey", "Delete a key that is not the default one.", true), s.deleteAPIKey),
	}
}

type createAPIKeyRequest struct {
	MemberID   int64  `doc:"account; the own one by default"`
	Name       string `validate:"min=0,max=63" doc:"for people"`
	ExpireTime int64  `validate:"min=0,max=253402300799" doc:"unix seconds, 0 never"`
}

type apiKeyResponse struct {
	APIKeyID      string
	APIPublicKey  string
	APIPrivateKey string `doc:"never shown again"`
}

func keyResponse(k *keyPair) *apiKeyResponse {
	return &apiKeyResponse{k.ID, k.PublicKey, k.PrivateKey}
}

func (s *Service) createAPIKey(ctx context.Context, c *action.Call, q *createAPIKeyRequest) (*apiKeyResponse, error) {
	if q.ExpireTime != 0 && q.ExpireTime <= s.Clock.Now().Unix() {
		return nil, retcode.InvalidParameter.Errorf("ExpireTime is over already")
	}
	var k *keyPair
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		a, err := s.keyHolder(ctx, tx, c, q.MemberID)
		if err != nil {
			return err
		}
		k, err = s.createKey(ctx, tx, a.ID, q.Name, q.ExpireTime)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(k.ID)
	return keyResponse(k), nil
}

type describeAPIKeyRequest struct {
	MemberID int64    `doc:"account; the own one by default"`
	States   []string `validate:"dive,oneof=Enabled Disabled" doc:"Enabled, Disabled"`
	Offset   int      `default:"0" validate:"min=0,max=1000000000" doc:"start of the page"`
	Limit    int      `default:"20" validate:"min=1,max=100" doc:"page length"`
}

type apiKeyInfo struct {
	APIKeyID     string
	Name         string
	MemberID     int64
	APIPublicKey string
	State        string `doc:"Enabled, Disabled"`
	IsDefault    bool   `doc:"the key that lists of accounts show"`
	CreateTime   int64  `doc:"unix seconds"`
	ExpireTime   int64  `doc:"unix seconds, 0 never"`
	LastUseTime  int64  `doc:"unix seconds, a minute late at most"`
	LastUseIP    string
}

type describeAPIKeyResponse struct {
	Infos      []apiKeyInfo
	TotalCount int
}

func (s *Service) describeAPIKey(ctx context.Context, c *action.Call, q *describeAPIKeyRequest) (*describeAPIKeyResponse, error) {
	db := s.DB.Reader()
	a, err := s.keyHolder(ctx, db, c, q.MemberID)
	if err != nil {
		return nil, err
	}
	var rows []keyPair
	sel := db.NewSelect().Model(&rows).Where("account = ? AND NOT replaced", a.ID)
	if len(q.States) > 0 {
		var wanted []bool
		for _, state := range q.States {
			wanted = append(wanted, state == keyDisabled)
		}
		sel = sel.Where("disabled IN (?)", bun.In(wanted))
	}
	total, err := sel.Order("created_at", "public_key").Offset(int64(q.Offset)).Limit(int64(q.Limit)).ScanAndCount(ctx)
	if err != nil {
		return nil, err
	}
	r := &describeAPIKeyResponse{TotalCount: int(total)}
	for _, k := range rows {
		r.Infos = append(r.Infos, apiKeyInfo{APIKeyID: k.ID, Name: k.Name, MemberID: k.Account, APIPublicKey: k.PublicKey, State: k.state(),
			IsDefault: k.IsDefault, CreateTime: k.CreatedAt / 1e6, ExpireTime: k.ExpiresAt / 1e6, LastUseTime: k.UsedAt / 1e6, LastUseIP: k.UsedIP})
	}
	return r, nil
}

type rotateAPIKeyRequest struct {
	APIKeyID     string `validate:"required" doc:"key"`
	GraceSeconds int    `default:"0" validate:"min=0,max=86400" doc:"how long the old pair is accepted, too"`
}

func (s *Service) rotateAPIKey(ctx context.Context, c *action.Call, q *rotateAPIKeyRequest) (*apiKeyResponse, error) {
	var fresh *keyPair
	err := s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		k, err := s.key(ctx, tx, c, q.APIKeyID)
		if err != nil {
			return err
		}
		fresh, err = s.rotateKey(ctx, tx, k, seconds(q.GraceSeconds))
		return err
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(fresh.ID)
	return keyResponse(fresh), nil
}

type apiKeyRequest struct {
	APIKeyID string `validate:"required" doc:"key"`
}

func (s *Service) switchAPIKey(disabled bool) func(context.Context, *action.Call, *apiKeyRequest) (*action.Empty, error) {
	return func(ctx context.Context, c *action.Call, q *apiKeyRequest) (*action.Empty, error) {
		return nil, s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
			k, err := s.key(ctx, tx, c, q.APIKeyID)
			if err != nil {
				return err
			}
			c.AddResource(k.ID)
			// A pair that was replaced goes with the key.
			_, err = tx.NewUpdate().Model((*keyPair)(nil)).Set("disabled = ?, updated_at = ?, generation = generation + 1", disabled, s.Clock.Micros()).
				Where("id = ? AND account = ?", k.ID, k.Account).Exec(ctx)
			return err
		})
	}
}

func (s *Service) deleteAPIKey(ctx context.Context, c *action.Call, q *apiKeyRequest) (*action.Empty, error) {
	return nil, s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		k, err := s.key(ctx, tx, c, q.APIKeyID)
		if err != nil {
			return err
		}
		if k.IsDefault {
			return retcode.InvalidResourceState.Errorf("%s is the default key: disable or rotate it instead", k.ID)
		}
		c.AddResource(k.ID)
		_, err = tx.NewDelete().Model((*keyPair)(nil)).Where("id = ? AND account = ?", k.ID, k.Account).Exec(ctx)
		return err
	})
}
