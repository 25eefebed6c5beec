package approval

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// step is one of a flow, as its row keeps it.
type step struct {
	Name      string
	Handler   int64 // account; 0: any administrator
	Automatic bool  // approves itself when its turn comes
	Observers []int64
}

const maxSteps = 10

// platformStep is the built-in flow, and the end of every flow that a tenant defines.
var platformStep = step{Name: "platform administrator"}

// parseSteps reads name|MemberID|automatic[|observer MemberID ...]: 4 for another form, 113, 20004 for an account that
// belongs neither to the tenant nor to the platform.
func (s *Service) parseSteps(ctx context.Context, company int64, infos []string) ([]step, error) {
	if len(infos) > maxSteps {
		return nil, retcode.InvalidParameter.Errorf("a flow has at most %d steps", maxSteps)
	}
	var steps []step
	for _, info := range infos {
		parts := strings.Split(info, "|")
		malformed := retcode.InvalidParameterFormat.Errorf("NodeInfos: a step is written name|MemberID|automatic, and observers after it")
		if len(parts) < 3 {
			return nil, malformed
		}
		n := step{Name: strings.TrimSpace(parts[0])}
		if n.Name == "" {
			return nil, malformed
		}
		if err := text("NodeInfos", n.Name, maxName); err != nil {
			return nil, err
		}
		var err error
		if n.Automatic, err = strconv.ParseBool(parts[2]); err != nil {
			return nil, malformed
		}
		for i, p := range append([]string{parts[1]}, parts[3:]...) {
			id, err := strconv.ParseInt(p, 10, 64)
			if err != nil {
				return nil, malformed
			}
			if i == 0 {
				n.Handler = id
			} else {
				n.Observers = append(n.Observers, id)
			}
			if id == 0 && i == 0 {
				continue // any administrator
			}
			member, err := s.Identity.Caller(ctx, id)
			if err == nil && !member.Admin && member.Company != company {
				err = retcode.AccountNotFound.Errorf("MemberID %d", id)
			}
			if err != nil {
				return nil, err
			}
		}
		steps = append(steps, n)
	}
	return steps, nil
}

// plan makes the steps of a new application: those of the tenant's flow for its type, or the built-in one.
func (s *Service) plan(ctx context.Context, tx bun.Tx, a *application) ([]node, error) {
	steps := []step{platformStep}
	f := new(flow)
	err := tx.NewSelect().Model(f).Where("id = (SELECT flow FROM approval_flow_type WHERE company = ? AND resource_type = ?)", a.Company, a.ResourceType).Scan(ctx)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return nil, err
	default:
		var own []step
		if err := json.Unmarshal([]byte(f.Nodes), &own); err != nil {
			return nil, err
		}
		if !f.Platform {
			own = append(own, platformStep)
		}
		steps, a.Flow = own, f.ID
	}
	nodes := make([]node, len(steps))
	for i, st := range steps {
		observers, err := json.Marshal(st.Observers)
		if err != nil {
			return nil, err
		}
		nodes[i] = node{ID: database.NewID("node"), Application: a.ID, Position: i, Name: st.Name, Handler: st.Handler, Automatic: st.Automatic,
			Observers: string(observers), State: waiting, CreatedAt: a.CreatedAt, UpdatedAt: a.CreatedAt}
	}
	return nodes, nil
}

// advance gives the next step its turn, lets automatic ones approve themselves, and starts the execution after the
// last one; then it returns the operation.
func (s *Service) advance(ctx context.Context, tx bun.Tx, a *application, nodes []node) (string, error) {
	now := s.Clock.Micros()
	for i := range nodes {
		n := &nodes[i]
		if n.State == approved {
			continue
		}
		n.State, n.UpdatedAt = pending, now
		if n.Automatic {
			n.State = approved
		}
		if _, err := tx.NewUpdate().Model(n).Column("state", "updated_at").WherePK().Exec(ctx); err != nil {
			return "", err
		}
		if n.State == pending {
			return "", nil
		}
	}
	if _, err := tx.NewUpdate().Model(a).Set("state = ?, updated_at = ?", Processing, now).WherePK().Exec(ctx); err != nil {
		return "", err
	}
	return s.accept(ctx, tx, a)
}

// mayHandle tells whether the caller is who a step waits for.
func mayHandle(c *action.Call, a *application, n *node) bool {
	if n.Handler == 0 {
		return c.Caller.Admin && c.Caller.MayUse(a.Region)
	}
	return n.Handler == c.Caller.Account
}

// decide writes the handler's decision on the step whose turn it is: 200, 114, 202.
func (s *Service) decide(ctx context.Context, tx bun.Tx, c *action.Call, q *updateNodeRequest) (string, error) {
	a, err := byID(ctx, tx, c, q.ApplicationID)
	if err != nil {
		return "", err
	}
	all, err := nodesOf(ctx, tx, a.ID)
	if err != nil {
		return "", err
	}
	nodes := all[a.ID]
	for i := range nodes {
		n := &nodes[i]
		if n.ID != q.NodeID {
			continue
		}
		if !mayHandle(c, a, n) {
			return "", retcode.ActionForbidden.Errorf("%s waits for somebody else", n.ID)
		}
		now := s.Clock.Micros()
		n.State, n.HandledBy, n.Remark, n.UpdatedAt = q.NodeState, c.Caller.Account, q.Remark, now
		r, err := tx.NewUpdate().Model(n).Column("state", "handled_by", "remark", "updated_at").WherePK().Where("state = ?", pending).Exec(ctx)
		if err != nil {
			return "", err
		}
		if done, err := r.RowsAffected(); err != nil {
			return "", err
		} else if done == 0 {
			return "", retcode.InvalidResourceState.Errorf("it is not the turn of %s, or it is decided", n.ID)
		}
		if q.NodeState == rejected {
			_, err := tx.NewUpdate().Model(a).Set("state = ?, updated_at = ?", Rejected, now).WherePK().Exec(ctx)
			return "", err
		}
		return s.advance(ctx, tx, a, nodes)
	}
	return "", retcode.ResourceNotFound.Errorf("NodeID %s", q.NodeID)
}
