package oauth

import (
	"context"
	"encoding/json"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) clientActions() []action.Action {
	spec := func(name, summary string) action.Spec {
		return action.Spec{Name: name, Module: "account", Summary: summary, Region: action.RegionNone, Admin: true, System: true, Extension: true,
			Mutates: !strings.HasPrefix(name, "List")}
	}
	return []action.Action{
		action.Define(spec("CreateOAuthClient", "Register an application that logs in with accounts of the platform."), s.createClient),
		action.Define(spec("ListOAuthClients", "List OAuth clients."), s.listClients),
		action.Define(spec("UpdateOAuthClient", "Change an OAuth client."), s.updateClient),
		action.Define(spec("RotateOAuthClientSecret", "Replace the secret."), s.rotateSecret),
		action.Define(spec("DeleteOAuthClient", "Delete a client and its tokens."), s.deleteClient),
	}
}

// maxRedirects is how many addresses a client has at most.
const maxRedirects = 20

// checkRedirects refuses addresses to which no code may be sent: they are whole, have no fragment, and are https unless
// they stay on the user's own machine (RFC 9700). 113.
func checkRedirects(uris []string) (string, error) {
	if len(uris) == 0 || len(uris) > maxRedirects {
		return "", retcode.InvalidParameter.Errorf("RedirectURIs are 1 to %d addresses", maxRedirects)
	}
	for _, text := range uris {
		u, err := url.Parse(text)
		switch {
		case err != nil || len(text) > 2000 || u.Host == "" || u.User != nil || u.Fragment != "" || strings.Contains(text, "#"):
			return "", retcode.InvalidParameter.Errorf("a redirect address is written https://host/path, without user and fragment")
		case u.Scheme == "https":
		case u.Scheme == "http" && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()):
		default:
			return "", retcode.InvalidParameter.Errorf("a redirect address must be https, or http on the loopback interface")
		}
	}
	text, err := json.Marshal(slices.Compact(slices.Sorted(slices.Values(uris))))
	return string(text), err
}

type createClientRequest struct {
	Name         string   `validate:"required" doc:"1 to 63 characters"`
	RedirectURIs []string `validate:"required" doc:"where codes may be sent, compared as they are; https, or http on loopback"`
	Remark       string   `validate:"max=100" doc:"free text"`
}

type createClientResponse struct {
	ClientID     string
	ClientSecret string `doc:"shown once"`
}

func (s *Service) createClient(ctx context.Context, c *action.Call, q *createClientRequest) (*createClientResponse, error) {
	name, err := resource.Name(q.Name)
	if err != nil {
		return nil, err
	}
	uris, err := checkRedirects(q.RedirectURIs)
	if err != nil {
		return nil, err
	}
	secret, now := newSecret(), s.Clock.Micros()
	row := &client{ID: database.NewID("client"), Name: name, Remark: q.Remark, SecretHash: digest(secret), Redirects: uris, State: enabled, CreatedAt: now, UpdatedAt: now}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(row).Exec(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(row.ID)
	return &createClientResponse{row.ID, secret}, nil
}

type listClientsRequest struct {
	ClientIDs []string `doc:"client ids"`
	Keyword   string   `doc:"part of name or id"`
	action.Page
}

type clientInfo struct {
	ClientID     string
	Name         string
	Remark       string
	RedirectURIs []string
	State        string
	CreateTime   int64 `doc:"unix seconds"`
	UpdateTime   int64 `doc:"unix seconds"`
}

type listClientsResponse struct {
	Infos      []clientInfo
	TotalCount int
}

func (s *Service) listClients(ctx context.Context, _ *action.Call, q *listClientsRequest) (*listClientsResponse, error) {
	var rows []client
	sel := s.DB.Reader().NewSelect().Model(&rows)
	if len(q.ClientIDs) > 0 {
		sel = sel.Where("id IN (?)", bun.In(q.ClientIDs))
	}
	sel = database.Matching(sel, q.Keyword, "name", "id")
	n, err := sel.OrderExpr("created_at DESC, id DESC").Offset(int64(q.Offset)).Limit(int64(max(1, q.Limit))).ScanAndCount(ctx)
	out := &listClientsResponse{Infos: []clientInfo{}, TotalCount: int(n)}
	if err != nil || q.Limit == 0 {
		return out, err
	}
	for _, r := range rows {
		out.Infos = append(out.Infos, clientInfo{r.ID, r.Name, r.Remark, r.uris(), r.State, r.CreatedAt / 1e6, r.UpdatedAt / 1e6})
	}
	return out, nil
}

// anyClient reads a client, enabled or not: 600 when there is none.
func anyClient(ctx context.Context, idb bun.IDB, id string) (*client, error) {
	c, err := one[client](ctx, idb, "id = ?", id)
	if err == nil && c == nil {
		err = retcode.OAuthClientNotFound.Errorf("ClientID %s", id)
	}
	return c, err
}

type updateClientRequest struct {
	ClientID     string   `validate:"required" doc:"client id"`
	Name         string   `doc:"1 to 63 characters"`
	RedirectURIs []string `doc:"all of them; none: as they are"`
	State        string   `validate:"omitempty,oneof=Enabled Disabled" doc:"a disabled client gets no codes, and its tokens are refused"`
	Remark       *string  `validate:"omitempty,max=100" doc:"free text"`
}

func (s *Service) updateClient(ctx context.Context, c *action.Call, q *updateClientRequest) (*action.Empty, error) {
	c.AddResource(q.ClientID)
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		row, err := anyClient(ctx, tx, q.ClientID)
		if err != nil {
			return err
		}
		if q.Name != "" {
			if row.Name, err = resource.Name(q.Name); err != nil {
				return err
			}
		}
		if len(q.RedirectURIs) > 0 {
			if row.Redirects, err = checkRedirects(q.RedirectURIs); err != nil {
				return err
			}
		}
		if q.State != "" {
			row.State = q.State
		}
		if q.Remark != nil {
			row.Remark = *q.Remark
		}
		row.UpdatedAt = s.Clock.Micros()
		_, err = tx.NewUpdate().Model(row).Column("name", "redirect_uris", "state", "remark", "updated_at").WherePK().Exec(ctx)
		return err
	})
}

type clientRequest struct {
	ClientID string `validate:"required" doc:"client id"`
}

type rotateSecretResponse struct {
	ClientSecret string `doc:"shown once; the old one is worthless at once"`
}

func (s *Service) rotateSecret(ctx context.Context, c *action.Call, q *clientRequest) (*rotateSecretResponse, error) {
	c.AddResource(q.ClientID)
	secret := newSecret()
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		row, err := anyClient(ctx, tx, q.ClientID)
		if err != nil {
			return err
		}
		row.SecretHash, row.UpdatedAt = digest(secret), s.Clock.Micros()
		_, err = tx.NewUpdate().Model(row).Column("secret_hash", "updated_at").WherePK().Exec(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &rotateSecretResponse{secret}, nil
}

func (s *Service) deleteClient(ctx context.Context, c *action.Call, q *clientRequest) (*action.Empty, error) {
	c.AddResource(q.ClientID)
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		row, err := anyClient(ctx, tx, q.ClientID)
		if err != nil {
			return err
		}
		for _, statement := range []string{`DELETE FROM oauth_token WHERE client_id = ?`, `DELETE FROM oauth_request WHERE client_id = ?`, `DELETE FROM oauth_client WHERE id = ?`} {
			if _, err := tx.NewRaw(statement, row.ID).Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}
