package network

import (
	"context"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// checkGroups refuses groups that are not in the scope (16002) or on their way out (16003). A group that is being
// updated may be used: whoever uses it is told its latest rules.
// It keeps them from being deleted until the transaction ends.
func checkGroups(ctx context.Context, tx bun.Tx, scope action.Scope, ids ...string) error {
	ids = uniq(ids)
	if err := lockGroups(ctx, tx, ids); err != nil {
		return err
	}
	for _, id := range ids {
		g, err := groupByID(ctx, tx, scope, id)
		if err != nil {
			return err
		}
		if g.ended() {
			return retcode.InvalidSGBizState.Errorf("%s is %s", g.ID, g.State)
		}
	}
	return nil
}

// ended tells whether the group is on its way out or gone.
func (g *Group) ended() bool {
	return g.State == Deleted || g.State == Terminating || g.State == Terminated
}

// lockGroups writes the rows of groups without a change, in one order for everybody.
func lockGroups(ctx context.Context, tx bun.Tx, ids []string) error {
	for _, id := range uniq(ids) {
		if _, err := tx.NewRaw("UPDATE security_group SET generation = generation WHERE id = ?", id).Exec(ctx); err != nil {
			return err
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
	if err := checkReferences(ctx, tx, g, rules); err != nil {
		return err
	}
	identify(rules, g.ID, g.CreatedAt)
	_, err := tx.NewInsert().Model(&rules).Exec(ctx)
	return err
}

// beginRules begins a change of a group's rules: it reads those that are there, and tells whether something uses
// the group, so that hosts must learn them; the group is then Updating. 16004 not Available, 16003.
func (s *Service) beginRules(ctx context.Context, tx bun.Tx, g *Group) (there []ruleRow, used bool, err error) {
	if g.ended() {
		return nil, false, retcode.InvalidSGBizState.Errorf("%s is %s", g.ID, g.State)
	}
	if g.State != Available {
		return nil, false, retcode.InvalidSGState.Errorf("%s is %s", g.ID, g.State)
	}
	if used, err = inUse(ctx, tx, g.ID); err != nil {
		return nil, false, err
	}
	to := Available
	if used {
		to = Updating
	}
	ok, err := changed(tx.NewUpdate().Model((*Group)(nil)).Set("state = ?", to).Set("reason_code = 0").Set("reason = ''").Set("updated_at = ?", s.Clock.Micros()).Set("generation = generation + 1").
		Where("id = ? AND generation = ?", g.ID, g.Generation).Exec(ctx))
	if err != nil {
		return nil, false, err
	}
	if !ok {
		return nil, false, retcode.InvalidSGState.Errorf("%s is %s", g.ID, Updating)
	}
	return there, used, tx.NewSelect().Model(&there).Where("sg_id = ?", g.ID).Order("created_at", "id").Scan(ctx)
}

// addRules adds rules to a group: 16000 there already, 113 too many, 200 unknown IP or port group.
func (s *Service) addRules(ctx context.Context, tx bun.Tx, g *Group, rules []ruleRow) (used bool, err error) {
	there, used, err := s.beginRules(ctx, tx, g)
	if err != nil {
		return false, err
	}
	if len(there)+len(rules) > MaxRules {
		return false, retcode.InvalidParameter.Errorf("a security group has at most %d rules, %s has %d", MaxRules, g.ID, len(there))
	}
	if err := apart(there, rules); err != nil {
		return false, err
	}
	if err := checkReferences(ctx, tx, g, rules); err != nil {
		return false, err
	}
	identify(rules, g.ID, s.Clock.Micros())
	_, err = tx.NewInsert().Model(&rules).Exec(ctx)
	return used, err
}

// apart refuses rules about traffic that one of those there is about (16000).
func apart(there, rules []ruleRow) error {
	for _, r := range rules {
		for i := range there {
			if there[i].meets(r) {
				return there[i].twice(r.String())
			}
		}
	}
	return nil
}

// known splits the rules there into those of the ids and the rest: 16005 when none of the ids is there, 16006 when
// some are not.
func known(g *Group, there []ruleRow, ids []string) (named, rest []ruleRow, err error) {
	for _, r := range there {
		if slices.Contains(ids, r.ID) {
			named = append(named, r)
		} else {
			rest = append(rest, r)
		}
	}
	switch {
	case len(named) == 0:
		return nil, nil, retcode.SGRuleNotFound.Errorf("%s in %s", strings.Join(ids, ", "), g.ID)
	case len(named) < len(ids):
		return nil, nil, retcode.SGRulePartiallyNotFound.Errorf("%d of %d rules are in %s", len(named), len(ids), g.ID)
	}
	return named, rest, nil
}

// replaceRules gives rules that are there another content, and another remark unless it is nil; it returns them as they
// were.
func (s *Service) replaceRules(ctx context.Context, tx bun.Tx, g *Group, rules []ruleRow, remark *string) (before []ruleRow, used bool, err error) {
	there, used, err := s.beginRules(ctx, tx, g)
	if err != nil {
		return nil, false, err
	}
	before, rest, err := known(g, there, column(rules, func(r *ruleRow) string { return r.ID }))
	if err != nil {
		return nil, false, err
	}
	if err := apart(rest, rules); err != nil {
		return nil, false, err
	}
	if err := checkReferences(ctx, tx, g, rules); err != nil {
		return nil, false, err
	}
	now := s.Clock.Micros()
	for i := range rules {
		was := before[slices.IndexFunc(before, func(r ruleRow) bool { return r.ID == rules[i].ID })]
		rules[i].SGID, rules[i].Remark, rules[i].CreatedAt, rules[i].UpdatedAt = g.ID, was.Remark, was.CreatedAt, now
		if remark != nil {
			rules[i].Remark = *remark
		}
	}
	if err := deleteRules(ctx, tx, g.ID, column(before, func(r *ruleRow) string { return r.ID })); err != nil {
		return nil, false, err
	}
	_, err = tx.NewInsert().Model(&rules).Exec(ctx)
	return before, used, err
}

// dropRules deletes rules and returns them.
func (s *Service) dropRules(ctx context.Context, tx bun.Tx, g *Group, ids []string) (before []ruleRow, used bool, err error) {
	there, used, err := s.beginRules(ctx, tx, g)
	if err != nil {
		return nil, false, err
	}
	if before, _, err = known(g, there, ids); err != nil {
		return nil, false, err
	}
	return before, used, deleteRules(ctx, tx, g.ID, ids)
}

func deleteRules(ctx context.Context, tx bun.Tx, group string, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.NewDelete().Model((*ruleRow)(nil)).Where("sg_id = ? AND id IN (?)", group, bun.In(ids)).Exec(ctx)
	return err
}

// deleteGroup deletes a group that nothing has, also not in the recycle bin, and leaves a tombstone: 16001 in use,
// 16003 deleted already or the tenant's default, 16004 being changed.
func (s *Service) deleteGroup(ctx context.Context, tx bun.Tx, g *Group) error {
	switch {
	case g.ended():
		return retcode.InvalidSGBizState.Errorf("%s is %s", g.ID, g.State)
	case g.IsDefault:
		return retcode.InvalidSGBizState.Errorf("%s is the tenant's default group", g.ID)
	case g.State != Available:
		return retcode.InvalidSGState.Errorf("%s is %s", g.ID, g.State)
	}
	now := s.Clock.Micros()
	ok, err := changed(tx.NewRaw("UPDATE security_group SET state = ?, updated_at = ?, ended_at = ?, generation = generation + 1 WHERE id = ? AND generation = ?",
		Terminated, now, now, g.ID, g.Generation).Exec(ctx))
	if err != nil {
		return err
	}
	busy, err2 := tx.NewSelect().TableExpr("operation_lock").Where("resource_id = ?", g.ID).Exists(ctx)
	if err2 != nil {
		return err2
	}
	if !ok || busy {
		return retcode.InvalidSGState.Errorf("%s is being bound, unbound or changed", g.ID)
	}
	holders, err := tx.NewSelect().Model((*Port)(nil)).Where("inner_sg = ? OR outer_sg = ?", g.ID, g.ID).Count(ctx)
	if err != nil {
		return err
	}
	if holders > 0 {
		return retcode.SGInUse.Errorf("%d interfaces have %s, also those in the recycle bin", holders, g.ID)
	}
	if _, err := tx.NewDelete().Model((*ruleRow)(nil)).Where("sg_id = ?", g.ID).Exec(ctx); err != nil {
		return err
	}
	return s.Catalog.Release(ctx, tx, g.Company, g.Region, catalog.Amounts{catalog.SecurityGroup: 1})
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
