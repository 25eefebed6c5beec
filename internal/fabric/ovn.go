package fabric

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/go-logr/logr"
	"github.com/ovn-kubernetes/libovsdb/cache"
	"github.com/ovn-kubernetes/libovsdb/client"
	"github.com/ovn-kubernetes/libovsdb/model"
	"github.com/ovn-kubernetes/libovsdb/ovsdb"

	"github.com/lingyun-cloud/lingyun/internal/fabric/nb"
)

const (
	// transactionSize is how many operations one transaction carries at most: a
	// larger one would keep the database from everybody else.
	transactionSize = 2000
	// nbCfgInterval is the least time between two raises of nb_cfg. Each makes
	// every chassis of the region answer.
	nbCfgInterval = 200 * time.Millisecond
	// chassisPatience is how long a chassis may owe an answer before nobody
	// waits for it any more: its host is dead or cut off, and catches up when back.
	chassisPatience = 10 * time.Second
	// attempts at a change that meets a database which moved under it.
	attempts = 3
	// reconnectTimeout bounds one attempt at connecting, including reading the rows.
	reconnectTimeout = 20 * time.Second
	// inactivity is how often a connection is asked whether it lives.
	inactivity = 30 * time.Second
)

// Options say where OVN's databases are.
type Options struct {
	// Northbound endpoints, comma separated: unix:/path, tcp:host:port or ssl:host:port. Required.
	Northbound string
	// Southbound endpoints, read only, to see how far each chassis is. Empty: Wait
	// uses the northbound's own summary, which one dead chassis holds up.
	Southbound string
	// TLS is used by ssl endpoints.
	TLS *tls.Config
	// Log may be nil.
	Log *slog.Logger
}

// chassisPrivate is the southbound's row in which a chassis says how far it is.
type chassisPrivate struct {
	UUID  string `ovsdb:"_uuid"`
	Name  string `ovsdb:"name"`
	NbCfg int    `ovsdb:"nb_cfg"`
}

// ovn is the Fabric over OVN's databases.
type ovn struct {
	north client.Client
	south client.Client // nil: none
	log   *slog.Logger
	end   context.CancelFunc // of the probes

	// owners serializes the changes of one VPC or segment.
	owners sync.Map // id -> chan struct{} of capacity 1

	mu      sync.Mutex
	batch   *batch        // the raise of nb_cfg that has not happened yet
	raised  time.Time     // when the last was sent
	moved   chan struct{} // closed when a row that Wait looks at changes
	behind  map[string]lag
	written int // operations sent so far, for tests
}

// batch is a raise of nb_cfg that several waiters share.
type batch struct {
	done   chan struct{}
	target int
	err    error
}

// lag is the oldest number that a chassis owes, and since when.
type lag struct {
	target int
	since  time.Time
}

var _ Fabric = (*ovn)(nil)

// OpenOVN connects to OVN and returns once its northbound rows are known. A lost
// connection is taken up again by itself; calls wait for it until their context ends.
func OpenOVN(ctx context.Context, o Options) (Fabric, error) {
	life, end := context.WithCancel(context.Background())
	f := &ovn{log: o.Log, end: end, moved: make(chan struct{}), behind: map[string]lag{}}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	db, err := northboundClient()
	if err != nil {
		end()
		return nil, err
	}
	if f.north, err = connect(ctx, db, o.Northbound, o.TLS, f.log); err != nil {
		end()
		return nil, fmt.Errorf("northbound: %w", err)
	}
	f.watch(f.north)
	go probe(life, f.north)
	if o.Southbound == "" {
		return f, nil
	}
	db, err = model.NewClientDBModel("OVN_Southbound", map[string]model.Model{"Chassis_Private": &chassisPrivate{}})
	if err == nil {
		f.south, err = connect(ctx, db, o.Southbound, o.TLS, f.log)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("southbound: %w", err)
	}
	f.watch(f.south)
	go probe(life, f.south)
	return f, nil
}

// probe ends a connection whose other end went without saying so; the client
// then connects anew. The client's own check closes a channel that a transaction
// may be about to write to, which ends the process.
func probe(ctx context.Context, c client.Client) {
	t := time.NewTicker(inactivity)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if !c.Connected() {
			continue
		}
		short, cancel := context.WithTimeout(ctx, inactivity)
		if err := c.Echo(short); err != nil && ctx.Err() == nil {
			c.Disconnect()
		}
		cancel()
	}
}

// connect opens one database and reads the model's tables.
func connect(ctx context.Context, db model.ClientDBModel, endpoints string, t *tls.Config, log *slog.Logger) (client.Client, error) {
	retry := backoff.NewExponentialBackOff(backoff.WithInitialInterval(50*time.Millisecond),
		backoff.WithMaxInterval(2*time.Second), backoff.WithMaxElapsedTime(0))
	logger := logr.FromSlogHandler(log.Handler())
	options := []client.Option{client.WithReconnect(reconnectTimeout, retry), client.WithLogger(&logger)}
	if t != nil {
		options = append(options, client.WithTLSConfig(t))
	}
	several := strings.Split(endpoints, ",")
	for _, e := range several {
		scheme, rest, _ := strings.Cut(e, ":")
		if rest == "" || !slices.Contains([]string{client.UNIX, client.TCP, client.SSL}, scheme) {
			return nil, fmt.Errorf("endpoint %q: want unix:/path, tcp:host:port or ssl:host:port", e)
		}
		if scheme == client.SSL && t == nil {
			return nil, fmt.Errorf("endpoint %q needs certificates", e)
		}
		options = append(options, client.WithEndpoint(e))
	}
	if len(several) > 1 { // a cluster: only its leader takes writes at once
		options = append(options, client.WithLeaderOnly(true))
	}
	c, err := client.NewOVSDBClient(db, options...)
	if err != nil {
		return nil, err
	}
	if err := c.Connect(ctx); err != nil {
		c.Close()
		return nil, err
	}
	if _, err := c.Monitor(ctx, c.NewMonitor(watched(db)...)); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// watched names the columns that the model knows. All others must stay out of
// the watch: one update of a column that a newer OVN added would spoil the copy.
func watched(db model.ClientDBModel) []client.MonitorOption {
	var out []client.MonitorOption
	for _, t := range db.Types() {
		m := reflect.New(t.Elem())
		var columns []any
		for i := range t.Elem().NumField() {
			if t.Elem().Field(i).Tag.Get("ovsdb") != "_uuid" {
				columns = append(columns, m.Elem().Field(i).Addr().Interface())
			}
		}
		out = append(out, client.WithTable(m.Interface(), columns...))
	}
	return out
}

// Close ends the connections.
func (f *ovn) Close() error {
	f.end()
	f.north.Close()
	if f.south != nil {
		f.south.Close()
	}
	return nil
}

// EnsureVPC implements Fabric.
func (f *ovn) EnsureVPC(ctx context.Context, v VPC) error {
	want, err := renderVPC(v)
	if err != nil {
		return err
	}
	return f.ensure(ctx, want)
}

// RemoveVPC implements Fabric.
func (f *ovn) RemoveVPC(ctx context.Context, id string) error {
	return f.ensure(ctx, &intent{owner: id, kind: kindVPC})
}

// EnsureSegment implements Fabric.
func (f *ovn) EnsureSegment(ctx context.Context, s Segment) error {
	want, err := renderSegment(s)
	if err != nil {
		return err
	}
	return f.ensure(ctx, want)
}

// RemoveSegment implements Fabric.
func (f *ovn) RemoveSegment(ctx context.Context, id string) error {
	if sw := f.have().row(nb.LogicalSwitchTable, segmentSwitch(id)); sw != nil {
		for _, port := range children(sw, "ports") {
			p, ok := f.have().row(nb.LogicalSwitchPortTable, port).(*nb.LogicalSwitchPort)
			if ok && (p.ExternalIDs[markKind] == kindVPC || p.ExternalIDs[markKind] == kindOuter) {
				return fmt.Errorf("%w: %s by %s", ErrInUse, id, p.ExternalIDs[markOwner])
			}
		}
	}
	return f.ensure(ctx, &intent{owner: id, kind: kindSegment})
}

func (f *ovn) have() have { return have{f.north.Cache()} }

// ensure makes an owner's rows as wanted. A change is one transaction unless it
// is a mend of more than transactionSize operations.
func (f *ovn) ensure(ctx context.Context, want *intent) error {
	l, _ := f.owners.LoadOrStore(want.owner, make(chan struct{}, 1))
	lock := l.(chan struct{})
	select {
	case lock <- struct{}{}:
		defer func() { <-lock }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var err error
	for range attempts {
		// While the connection is down the copy may be old, or half read.
		if err := f.connected(ctx); err != nil {
			return err
		}
		var changes []change
		if changes, err = diff(want, f.have()); err != nil {
			return err
		}
		if len(changes) == 0 {
			return nil
		}
		err = nil
		for _, ops := range transactions(changes, transactionSize) {
			if err = f.transact(ctx, ops); err != nil {
				break
			}
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		f.log.Warn("northbound moved under a change, looking again", "owner", want.owner, "err", err)
	}
	return fmt.Errorf("%s: %w", want.owner, err)
}

// connected waits until the northbound's copy is that of a live connection.
func (f *ovn) connected(ctx context.Context) error {
	for !f.north.Connected() || f.north.Echo(ctx) != nil {
		select {
		case <-ctx.Done():
			return fmt.Errorf("northbound: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// errMoved says that a row we were about to change is gone.
var errMoved = errors.New("a row is gone")

// transact sends one transaction. The update of our copy comes before the
// answer, so that the next diff sees what was written.
func (f *ovn) transact(ctx context.Context, ops []ovsdb.Operation) error {
	results, err := f.north.Transact(ctx, ops...)
	if err != nil {
		return err
	}
	if failed, err := ovsdb.CheckOperationResults(results, ops); err != nil {
		return errors.Join(append([]error{err}, details(failed)...)...)
	}
	f.mu.Lock()
	f.written += len(ops)
	f.mu.Unlock()
	for i, op := range ops {
		if (op.Op == ovsdb.OperationMutate || op.Op == ovsdb.OperationUpdate) && results[i].Count == 0 {
			return fmt.Errorf("%w: %s %s", errMoved, op.Op, op.Table)
		}
	}
	return nil
}

func details(failed []ovsdb.OperationError) []error {
	out := make([]error, len(failed))
	for i, e := range failed {
		out[i] = e
	}
	return out
}

// Present implements Fabric.
func (f *ovn) Present(ctx context.Context) (vpcs, segments []string, err error) {
	if err := f.connected(ctx); err != nil {
		return nil, nil, err
	}
	for kind, ids := range map[string]*[]string{kindVPC: &vpcs, kindSegment: &segments} {
		found := map[string]bool{}
		for t := range tables {
			rows, err := f.have().marked(t, markKind, kind)
			if err != nil {
				return nil, nil, err
			}
			for _, r := range rows {
				info, err := northbound.NewModelInfo(r)
				if err != nil {
					return nil, nil, err
				}
				marks, err := info.FieldByColumn("external_ids")
				if err != nil {
					return nil, nil, err
				}
				if owner := marks.(map[string]string)[markOwner]; owner != "" {
					found[owner] = true
				}
			}
		}
		*ids = slices.Sorted(maps.Keys(found))
	}
	return vpcs, segments, nil
}

// watch wakes waiters when a chassis moved on.
func (f *ovn) watch(c client.Client) {
	wake := func(table string) {
		if table == "Chassis_Private" || table == nb.NBGlobalTable {
			f.mu.Lock()
			defer f.mu.Unlock()
			close(f.moved)
			f.moved = make(chan struct{})
		}
	}
	c.Cache().AddEventHandler(&cache.EventHandlerFuncs{
		AddFunc:    func(table string, _ model.Model) { wake(table) },
		UpdateFunc: func(table string, _, _ model.Model) { wake(table) },
		DeleteFunc: func(table string, _ model.Model) { wake(table) },
	})
}

// Wait implements Fabric. Calls that come within nbCfgInterval share one raise
// of nb_cfg. Without a southbound connection every chassis is waited for.
func (f *ovn) Wait(ctx context.Context, chassis []string) error {
	target, err := f.raise(ctx)
	if err != nil {
		return err
	}
	var patience <-chan time.Time
	if f.south != nil {
		t := time.NewTicker(chassisPatience / 10)
		defer t.Stop()
		patience = t.C
	}
	for {
		f.mu.Lock()
		moved := f.moved
		f.mu.Unlock()
		if f.reached(target, chassis) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("chassis behind: %w", ctx.Err())
		case <-moved:
		case <-patience:
		}
	}
}

// reached tells whether all chassis that are worth waiting for run target.
func (f *ovn) reached(target int, chassis []string) bool {
	if f.south == nil {
		g := f.global()
		return g != nil && g.HvCfg >= target
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	all := true
	for _, r := range f.south.Cache().Table("Chassis_Private").RowsShallow() {
		c := r.(*chassisPrivate)
		if !slices.Contains(chassis, c.Name) {
			continue
		}
		owes := f.behind[c.Name]
		switch {
		case c.NbCfg >= target:
			delete(f.behind, c.Name)
		case owes.since.IsZero() || c.NbCfg >= owes.target:
			f.behind[c.Name] = lag{target, time.Now()}
			all = false
		case time.Since(owes.since) < chassisPatience:
			all = false
		}
	}
	return all
}

func (f *ovn) global() *nb.NBGlobal {
	for _, r := range f.north.Cache().Table(nb.NBGlobalTable).RowsShallow() {
		return r.(*nb.NBGlobal)
	}
	return nil
}

// raise takes part in the next raise of nb_cfg and gives its number.
func (f *ovn) raise(ctx context.Context) (int, error) {
	f.mu.Lock()
	b := f.batch
	if b == nil {
		b = &batch{done: make(chan struct{})}
		f.batch = b
		// Runs to its end whoever waits: others may have joined it.
		time.AfterFunc(max(0, nbCfgInterval-time.Since(f.raised)), func() {
			f.mu.Lock()
			f.batch, f.raised = nil, time.Now()
			f.mu.Unlock()
			ctx, cancel := context.WithTimeout(context.Background(), reconnectTimeout)
			defer cancel()
			b.target, b.err = f.raiseNow(ctx)
			close(b.done)
		})
	}
	f.mu.Unlock()
	select {
	case <-b.done:
		return b.target, b.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// raiseNow raises nb_cfg beyond what any chassis has answered: in a northbound
// that was made anew it starts at 0, below their old answers.
func (f *ovn) raiseNow(ctx context.Context) (int, error) {
	if err := f.connected(ctx); err != nil {
		return 0, err
	}
	g := f.global()
	if g == nil {
		return 0, errors.New("northbound has no NB_Global row: ovn-northd is not running")
	}
	step := 1
	if f.south != nil {
		for _, r := range f.south.Cache().Table("Chassis_Private").RowsShallow() {
			step = max(step, r.(*chassisPrivate).NbCfg-g.NbCfg+1)
		}
	}
	ops := []ovsdb.Operation{
		{Op: ovsdb.OperationMutate, Table: nb.NBGlobalTable, Where: byID(g.UUID), Mutations: []ovsdb.Mutation{*ovsdb.NewMutation("nb_cfg", ovsdb.MutateOperationAdd, step)}},
		{Op: ovsdb.OperationSelect, Table: nb.NBGlobalTable, Where: byID(g.UUID), Columns: []string{"nb_cfg"}},
	}
	results, err := f.north.Transact(ctx, ops...)
	if err != nil {
		return 0, err
	}
	if _, err := ovsdb.CheckOperationResults(results, ops); err != nil {
		return 0, err
	}
	if len(results[1].Rows) != 1 {
		return 0, errMoved
	}
	n, ok := results[1].Rows[0]["nb_cfg"].(float64)
	if !ok {
		return 0, fmt.Errorf("nb_cfg is %v", results[1].Rows[0]["nb_cfg"])
	}
	return int(n), nil
}
