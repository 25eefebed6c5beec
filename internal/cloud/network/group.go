package network

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// checkGroups refuses groups that are not in the scope (16002) or on their way out (16003). A group that is being
// updated may be used: whoever uses it is told its latest rules.
func checkGroups(ctx context.Context, tx bun.Tx, scope action.Scope, ids ...string) error {
	for _, id := range uniq(ids) {
		g, err := groupByID(ctx, tx, scope, id)
		if err != nil {
			return err
		}
		if g.State == Deleted || g.State == Terminating {
			return retcode.InvalidSGBizState.Errorf("%s is %s", g.ID, g.State)
		}
	}
	return nil
}

// identify gives new rules their ids and times. A later rule is a microsecond younger, so that lists keep the order.
func identify(rules []ruleRow, group string, now int64) {
	for i := range rules {
		rules[i].ID, rules[i].SGID = database.NewID("sg_rule"), group
		rules[i].CreatedAt, rules[i].UpdatedAt = now+int64(i), now+int64(i)
	}
}

// createGroup makes a group with its rules; nothing uses it yet, so it is Available at once.
func (s *Service) createGroup(ctx context.Context, tx bun.Tx, g *Group, rules []ruleRow) error {
	if _, err := tx.NewInsert().Model(g).Exec(ctx); err != nil {
		return err
	}
	identify(rules, g.ID, g.CreatedAt)
	_, err := tx.NewInsert().Model(&rules).Exec(ctx)
	return err
}

// addRules adds rules to a group and tells whether something uses it, so that hosts must learn them; the
// group is then Updating. 16004 not Available, 16003, 16000 there already, 113 too many.
func (s *Service) addRules(ctx context.Context, tx bun.Tx, g *Group, rules []ruleRow) (used bool, err error) {
	switch g.State {
	case Available:
	case Deleted, Terminating, "Terminated":
		return false, retcode.InvalidSGBizState.Errorf("%s is %s", g.ID, g.State)
	default:
		return false, retcode.InvalidSGState.Errorf("%s is %s", g.ID, g.State)
	}
	if used, err = inUse(ctx, tx, g.ID); err != nil {
		return false, err
	}
	to := Available
	if used {
		to = Updating
	}
	now := s.Clock.Micros()
	ok, err := changed(tx.NewUpdate().Model((*Group)(nil)).Set("state = ?", to).Set("reason_code = 0").Set("reason = ''").Set("updated_at = ?", now).Set("generation = generation + 1").
		Where("id = ? AND generation = ?", g.ID, g.Generation).Exec(ctx))
	if err != nil {
		return false, err
	}
	if !ok {
		return false, retcode.InvalidSGState.Errorf("%s is %s", g.ID, Updating)
	}
	var there []ruleRow
	if err := tx.NewSelect().Model(&there).Where("sg_id = ?", g.ID).Scan(ctx); err != nil {
		return false, err
	}
	if len(there)+len(rules) > MaxRules {
		return false, retcode.InvalidParameter.Errorf("a security group has at most %d rules, %s has %d", MaxRules, g.ID, len(there))
	}
	for _, r := range rules {
		for i := range there {
			if there[i].meets(r) {
				return false, there[i].twice(r.String())
			}
		}
	}
	identify(rules, g.ID, now)
	_, err = tx.NewInsert().Model(&rules).Exec(ctx)
	return used, err
}

// inUse tells whether a port in a network has the group on a side.
func inUse(ctx context.Context, idb bun.IDB, group string) (bool, error) {
	return idb.NewSelect().Model((*Port)(nil)).Where("(inner_sg = ? OR outer_sg = ?) AND kept = ?", group, group, false).Exists(ctx)
}

// settleGroup makes an Updating group Available. cause says why its new rules were taken back.
func (s *Service) settleGroup(ctx context.Context, tx bun.Tx, id string, cause error) error {
	code, detail := explanation(cause)
	_, err := tx.NewUpdate().Model((*Group)(nil)).Set("state = ?", Available).Set("reason_code = ?", code).Set("reason = ?", detail).Set("updated_at = ?", s.Clock.Micros()).
		Set("generation = generation + 1").Where("id = ? AND state = ?", id, Updating).Exec(ctx)
	return err
}
