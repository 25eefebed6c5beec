package fabric

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/ovn-kubernetes/libovsdb/cache"
	"github.com/ovn-kubernetes/libovsdb/model"
	"github.com/ovn-kubernetes/libovsdb/ovsdb"

	"github.com/lingyun-cloud/lingyun/internal/fabric/nb"
)

// ErrNoSegment answers a VPC with a gateway on a segment that has no switch. Ensure the segment first.
var ErrNoSegment = errors.New("fabric: segment is not there")

// ErrInUse answers the removal of a segment on which a VPC still has its gateway.
var ErrInUse = errors.New("fabric: segment is in use")

// tables says, of each table we write, which columns are ours and which of its
// columns hold references. What is not named here is left as it is: OVN's own
// (up, tag_request, ...) or an operator's.
var tables = map[string]struct {
	root       bool // lives without a parent
	columns    []string
	references []string
}{
	nb.AddressSetTable:               {root: true, columns: []string{"name", "addresses"}},
	nb.DHCPOptionsTable:              {root: true, columns: []string{"cidr", "options"}},
	nb.LogicalRouterTable:            {root: true, columns: []string{"name"}, references: []string{"ports", "static_routes", "policies", "nat"}},
	nb.LogicalSwitchTable:            {root: true, columns: []string{"name"}, references: []string{"ports", "acls", "qos_rules"}},
	nb.PortGroupTable:                {root: true, columns: []string{"name"}, references: []string{"ports", "acls"}},
	nb.ACLTable:                      {columns: []string{"direction", "priority", "match", "action", "label"}},
	nb.GatewayChassisTable:           {columns: []string{"name", "chassis_name", "priority"}},
	nb.LogicalRouterPolicyTable:      {columns: []string{"priority", "match", "action", "nexthops"}},
	nb.LogicalRouterPortTable:        {columns: []string{"name", "mac", "networks", "options", "peer"}, references: []string{"gateway_chassis"}},
	nb.LogicalRouterStaticRouteTable: {columns: []string{"route_table", "ip_prefix", "nexthop", "output_port"}},
	nb.LogicalSwitchPortTable:        {columns: []string{"name", "type", "options", "addresses", "port_security", "tag", "dhcpv4_options"}},
	nb.NATTable:                      {columns: []string{"type", "external_ip", "logical_ip", "external_mac", "logical_port", "gateway_port"}},
	nb.QoSTable:                      {columns: []string{"priority", "direction", "match", "bandwidth"}},
}

// northbound is the database as our rows see it.
var northbound = func() model.DatabaseModel {
	client, err := northboundClient()
	if err != nil {
		panic(err)
	}
	db, errs := model.NewDatabaseModel(nb.Schema(), client)
	if len(errs) > 0 {
		panic(errors.Join(errs...))
	}
	return db
}()

// northboundClient is the part of the database that is watched: the tables we
// write and the global row, indexed by our marks.
func northboundClient() (model.ClientDBModel, error) {
	full, err := nb.FullDatabaseModel()
	if err != nil {
		return full, err
	}
	watched := map[string]model.Model{nb.NBGlobalTable: &nb.NBGlobal{}}
	indexes := map[string][]model.ClientIndex{}
	for t := range tables {
		watched[t] = reflect.New(full.Types()[t].Elem()).Interface()
		for _, key := range []string{markOwner, markKind} {
			indexes[t] = append(indexes[t], model.ClientIndex{Columns: []model.ColumnKey{{Column: "external_ids", Key: key}}})
		}
	}
	out, err := model.NewClientDBModel(full.Name(), watched)
	if err == nil {
		out.SetIndexes(indexes)
	}
	return out, err
}

// have reads the northbound as it is, from the connection's copy.
type have struct{ *cache.TableCache }

// row is nil when there is none.
func (h have) row(table, id string) row {
	if r, ok := h.Table(table).Row(id).(row); ok {
		return r
	}
	return nil
}

// marked lists the rows of a table whose external_ids say so.
func (h have) marked(table, key, value string) ([]row, error) {
	m, err := ovsdb.NewOvsMap(map[string]string{key: value})
	if err != nil {
		return nil, err
	}
	found, err := h.Table(table).RowsByCondition([]ovsdb.Condition{ovsdb.NewCondition("external_ids", ovsdb.ConditionIncludes, m)})
	if err != nil {
		return nil, err
	}
	out := make([]row, 0, len(found))
	for _, id := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[id].(row))
	}
	return out, nil
}

// change is one or more operations that only make sense together, and the
// references that the same transaction adds and takes away.
type change struct {
	operation *ovsdb.Operation
	add, drop []reference
}

// diff compares what an owner should have with what is there. Only rows with the
// owner's mark, or with an id that only we could have derived, are touched; in
// columns of references only those to such rows.
func diff(want *intent, h have) ([]change, error) {
	for _, s := range want.segments {
		if h.row(nb.LogicalSwitchTable, segmentSwitch(s)) == nil || h.row(nb.PortGroupTable, segmentRouters(s)) == nil {
			return nil, fmt.Errorf("%w: %s", ErrNoSegment, s)
		}
	}

	wanted := map[string]bool{}              // ids of rows
	wantedReferences := map[reference]bool{} // that exist or are to come
	byChild := map[string][]reference{}      // of wantedReferences
	parents := map[string]map[string]row{}   // rows that may refer to ours, by table
	obsolete := map[string]map[string]bool{} // our rows that should go, by table
	ours := map[string]bool{}                // ids of all our rows that are there
	for _, ref := range want.references {
		wantedReferences[ref] = true
		byChild[ref.child] = append(byChild[ref.child], ref)
	}
	for t, spec := range tables {
		parents[t], obsolete[t] = map[string]row{}, map[string]bool{}
		owned, err := h.marked(t, markOwner, want.owner)
		if err != nil {
			return nil, err
		}
		for _, r := range owned {
			ours[r.GetUUID()], obsolete[t][r.GetUUID()] = true, true
			if len(spec.references) > 0 {
				parents[t][r.GetUUID()] = r
			}
		}
		if want.kind != kindSegment && len(spec.references) > 0 {
			segments, err := h.marked(t, markKind, kindSegment)
			if err != nil {
				return nil, err
			}
			for _, r := range segments {
				parents[t][r.GetUUID()] = r
			}
		}
	}

	var out []change
	present := map[string]row{}
	for _, w := range want.rows {
		t, id := tableOf(w), w.GetUUID()
		if wanted[id] {
			return nil, fmt.Errorf("%w: two rows with one role: %s %s", ErrInvalid, t, id)
		}
		wanted[id] = true
		delete(obsolete[t], id)
		now := h.row(t, id)
		if now != nil {
			present[id], ours[id] = now, true
			if len(tables[t].references) > 0 {
				parents[t][id] = now
			}
		}
		op, err := write(t, w, now)
		if err != nil {
			return nil, err
		}
		c := change{operation: op}
		for _, ref := range byChild[id] {
			if parent := parents[ref.table][ref.parent]; parent == nil || !slices.Contains(children(parent, ref.column), id) {
				c.add = append(c.add, ref)
			}
		}
		if c.operation != nil || len(c.add) > 0 {
			out = append(out, c)
		}
	}

	// Then what is too much: references to rows of ours that nobody asked for
	// (which ends rows that live by them), and rows that live by themselves.
	for _, t := range slices.Sorted(maps.Keys(parents)) {
		for _, id := range slices.Sorted(maps.Keys(parents[t])) {
			if obsolete[t][id] && tables[t].root {
				continue // goes as a whole
			}
			for _, column := range tables[t].references {
				for _, child := range children(parents[t][id], column) {
					ref := reference{t, id, column, child}
					if ours[child] && !wantedReferences[ref] {
						out = append(out, change{drop: []reference{ref}})
					}
				}
			}
		}
	}
	for _, t := range slices.Sorted(maps.Keys(obsolete)) {
		if tables[t].root {
			for _, id := range slices.Sorted(maps.Keys(obsolete[t])) {
				out = append(out, change{operation: &ovsdb.Operation{Op: ovsdb.OperationDelete, Table: t, Where: byID(id)}})
			}
		}
	}
	return out, nil
}

// write is the insert of a row that is not there, the update of the columns that
// differ, or nil. An operator's own external_ids stay.
func write(table string, want, now row) (*ovsdb.Operation, error) {
	w, err := northbound.NewModelInfo(want)
	if err != nil {
		return nil, err
	}
	op := &ovsdb.Operation{Op: ovsdb.OperationInsert, Table: table, Row: ovsdb.Row{}}
	schema := northbound.Schema.Table(table)
	set := func(column string, value any) error {
		v, err := ovsdb.NativeToOvs(schema.Column(column), value)
		if err == nil {
			op.Row[column] = v
		}
		return err
	}
	columns := tables[table].columns
	marks, err := w.FieldByColumn("external_ids")
	if err != nil {
		return nil, err
	}
	if now == nil {
		op.UUID = want.GetUUID()
		for _, c := range columns {
			v, err := w.FieldByColumn(c)
			if err != nil {
				return nil, err
			}
			if reflect.ValueOf(v).IsZero() {
				continue
			}
			if err := set(c, v); err != nil {
				return nil, err
			}
		}
		return op, set("external_ids", marks)
	}

	n, err := northbound.NewModelInfo(now)
	if err != nil {
		return nil, err
	}
	op.Op, op.Where = ovsdb.OperationUpdate, byID(want.GetUUID())
	for _, c := range columns {
		v, err := w.FieldByColumn(c)
		if err != nil {
			return nil, err
		}
		is, err := n.FieldByColumn(c)
		if err != nil {
			return nil, err
		}
		if !same(v, is) {
			if err := set(c, v); err != nil {
				return nil, err
			}
		}
	}
	are, err := n.FieldByColumn("external_ids")
	if err != nil {
		return nil, err
	}
	merged := map[string]string{}
	maps.Copy(merged, are.(map[string]string))
	maps.Copy(merged, marks.(map[string]string))
	if !same(merged, are) {
		if err := set("external_ids", merged); err != nil {
			return nil, err
		}
	}
	if len(op.Row) == 0 {
		return nil, nil
	}
	return op, nil
}

// same compares two values of a column; sets have no order, and empty is nil.
func same(a, b any) bool {
	switch x := a.(type) {
	case []string:
		y := b.([]string)
		return slices.Equal(slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y)))
	case map[string]string:
		return maps.Equal(x, b.(map[string]string))
	case map[string]int:
		return maps.Equal(x, b.(map[string]int))
	}
	return reflect.DeepEqual(a, b)
}

func byID(id string) []ovsdb.Condition {
	return []ovsdb.Condition{ovsdb.NewCondition("_uuid", ovsdb.ConditionEqual, ovsdb.UUID{GoUUID: id})}
}

func tableOf(r row) string { return northbound.FindTable(reflect.TypeOf(r)) }

// children are the rows that a column of references names.
func children(parent row, column string) []string {
	info, err := northbound.NewModelInfo(parent)
	if err != nil {
		return nil
	}
	v, err := info.FieldByColumn(column)
	if err != nil {
		return nil
	}
	ids, _ := v.([]string)
	return ids
}

// transactions cuts changes, in their order, into transactions of at most size
// operations each, joining all references of one column into one mutation. A
// child always comes with its references: a row that nothing refers to would be
// collected at once.
func transactions(changes []change, size int) [][]ovsdb.Operation {
	var out [][]ovsdb.Operation
	for len(changes) > 0 {
		var ops []ovsdb.Operation
		type column struct{ table, parent, column string }
		var order []column
		add, drop := map[column][]string{}, map[column][]string{}
		n := 0
		for n < len(changes) && (n == 0 || len(ops)+2*len(order) < size) {
			c := changes[n]
			n++
			if c.operation != nil {
				ops = append(ops, *c.operation)
			}
			for to, refs := range map[*map[column][]string][]reference{&add: c.add, &drop: c.drop} {
				for _, ref := range refs {
					k := column{ref.table, ref.parent, ref.column}
					if add[k] == nil && drop[k] == nil {
						order = append(order, k)
					}
					(*to)[k] = append((*to)[k], ref.child)
				}
			}
		}
		for _, k := range order {
			var m []ovsdb.Mutation
			if ids := drop[k]; ids != nil {
				m = append(m, *ovsdb.NewMutation(k.column, ovsdb.MutateOperationDelete, uuids(ids)))
			}
			if ids := add[k]; ids != nil {
				m = append(m, *ovsdb.NewMutation(k.column, ovsdb.MutateOperationInsert, uuids(ids)))
			}
			ops = append(ops, ovsdb.Operation{Op: ovsdb.OperationMutate, Table: k.table, Where: byID(k.parent), Mutations: m})
		}
		out = append(out, ops)
		changes = changes[n:]
	}
	return out
}

func uuids(ids []string) ovsdb.OvsSet {
	s := ovsdb.OvsSet{}
	for _, id := range ids {
		s.GoSet = append(s.GoSet, ovsdb.UUID{GoUUID: id})
	}
	return s
}

// text is a row for people and golden files: table, columns and the references
// to it, in a fixed order.
func (in *intent) text() []string {
	names := map[string]string{} // readable instead of UUIDs
	for _, r := range in.rows {
		info, err := northbound.NewModelInfo(r)
		if err != nil {
			continue
		}
		if n, err := info.FieldByColumn("name"); err == nil {
			if s, ok := n.(string); ok {
				names[r.GetUUID()] = s
			}
		}
	}
	for _, s := range in.segments {
		names[segmentSwitch(s)], names[segmentRouters(s)] = s, symbol("routers", s)
	}
	var out []string
	for _, r := range in.rows {
		t := tableOf(r)
		info, err := northbound.NewModelInfo(r)
		if err != nil {
			continue
		}
		line := []string{t}
		for _, c := range tables[t].columns {
			v, err := info.FieldByColumn(c)
			if err != nil || reflect.ValueOf(v).IsZero() {
				continue
			}
			if p, ok := v.(*string); ok {
				v = *p
				if n := names[*p]; n != "" {
					v = n
				}
			}
			if p, ok := v.(*int); ok {
				v = *p
			}
			line = append(line, fmt.Sprintf("%s=%v", c, v))
		}
		marks, _ := info.FieldByColumn("external_ids")
		line = append(line, "for="+marks.(map[string]string)[markID])
		for _, ref := range in.references {
			if ref.child == r.GetUUID() {
				parent := ref.parent
				if n := names[parent]; n != "" {
					parent = n
				}
				line = append(line, fmt.Sprintf("in=%s:%s.%s", ref.table, parent, ref.column))
			}
		}
		out = append(out, strings.Join(line, "  "))
	}
	slices.Sort(out)
	return out
}
