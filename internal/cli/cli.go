package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// settings are the flags that every client command has.
type settings struct {
	profile, region, ca, output string
	async                       bool
	timeout                     time.Duration
}

// Commands returns the client's subcommands.
func Commands() []*cobra.Command {
	return []*cobra.Command{
		vmCommand(), diskCommand(), snapshotCommand(), eipCommand(), imageCommand(), vpcCommand(), subnetCommand(), routeCommand(), peeringCommand(), nicCommand(), vipCommand(), sgCommand(), ipGroupCommand(), portGroupCommand(), segmentCommand(),
		balanceCommand(), rechargeCommand(), withdrawalCommand(), orderCommand(), billCommand(), renewCommand(),
		recycleCommand(), logCommand(), eventCommand(), regionCommand(), configCommand(), priceCommand(), specCommand(), quotaCommand(), licenceCommand(), loginCommand(), callCommand(),
		projectCommand(), roleCommand(), grantCommand(), serviceCommand(), applicationCommand(),
		logoutCommand(), tenantCommand(), accountCommand(), keyCommand(), totpCommand(),
		tagCommand(), timerCommand(), storageCommand(),
	}
}

// group makes a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(subs...)
	return cmd
}

// session is one run of a client command.
type session struct {
	*Client
	settings
	out, err io.Writer
}

// command makes a client command: run gets a session with the profile loaded.
func command(use, short string, args cobra.PositionalArgs, run func(ctx context.Context, s *session, args []string) error) *cobra.Command {
	var set settings
	cmd := &cobra.Command{Use: use, Short: short, Args: args, SilenceUsage: true}
	f := cmd.Flags()
	f.StringVar(&set.profile, "profile", "", "profile kept by login, or the path of a file like demo.json ($LINGYUN_PROFILE)")
	f.StringVar(&set.region, "region", "", "region id, instead of the profile's")
	f.StringVar(&set.ca, "ca", os.Getenv("LINGYUN_CA"), "file with the certificate authority of a self-issued https endpoint ($LINGYUN_CA)")
	f.StringVarP(&set.output, "output", "o", "table", "table or json")
	f.BoolVar(&set.async, "async", false, "do not wait until the change is done")
	f.DurationVar(&set.timeout, "timeout", 10*time.Minute, "how long to wait")
	cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if set.output != "table" && set.output != "json" {
			return fmt.Errorf("--output must be table or json")
		}
		s, err := open(set)
		if err != nil {
			return err
		}
		s.out, s.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
		return run(cmd.Context(), s, args)
	}
	return cmd
}

// open loads the profile and makes the client.
func open(set settings) (*session, error) {
	p, err := LoadProfile(set.profile)
	if err != nil {
		return nil, err
	}
	if set.region != "" {
		p.Region = set.region
	}
	c, err := New(p, language(), set.ca)
	if err != nil {
		return nil, err
	}
	return &session{Client: c, settings: set}, nil
}

// language of messages, from the locale.
func language() string {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := os.Getenv(name); v != "" {
			if strings.HasPrefix(v, "zh") {
				return "zh"
			}
			break
		}
	}
	return "en"
}

// column of a table.
type column struct {
	title string
	value func(o object) string
}

// plain shows a field under a title.
func plain(title, field string) column {
	return column{title, func(o object) string { return o.text(field) }}
}

// when shows a time in unix seconds.
func when(title, field string) column {
	return column{title, func(o object) string {
		if v, ok := o[field].(float64); ok && v > 0 {
			return time.Unix(int64(v), 0).Format("2006-01-02 15:04:05")
		}
		return ""
	}}
}

// printable keeps what a tenant wrote into a name from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

// show prints a list.
func (s *session) show(items []object, columns []column) error {
	if s.output == "json" {
		if items == nil {
			items = []object{}
		}
		return s.json(items)
	}
	t := s.table()
	head := make(table.Row, len(columns))
	for i, c := range columns {
		head[i] = c.title
	}
	t.AppendHeader(head)
	for _, o := range items {
		row := make(table.Row, len(columns))
		for i, c := range columns {
			row[i] = printable(c.value(o))
		}
		t.AppendRow(row)
	}
	t.Render()
	return nil
}

// detail prints one object, a line a column.
func (s *session) detail(o object, columns []column) error {
	if s.output == "json" {
		return s.json(o)
	}
	t := s.table()
	for _, c := range columns {
		if v := c.value(o); v != "" {
			t.AppendRow(table.Row{c.title, printable(v)})
		}
	}
	t.Render()
	return nil
}

func (s *session) table() table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(s.out)
	t.SuppressTrailingSpaces()
	t.SetStyle(table.StyleDefault)
	t.Style().Options = table.OptionsNoBordersAndSeparators
	t.Style().Format.Header = text.FormatUpper
	t.Style().Box.PaddingLeft, t.Style().Box.PaddingRight = "", "   "
	return t
}

func (s *session) json(v any) error {
	e := json.NewEncoder(s.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// wait polls look until it says that the change is done, showing each new state. With --async it
// does not look at all. look returns the state for people.
func (s *session) wait(ctx context.Context, what string, look func(ctx context.Context) (state string, done bool, err error)) error {
	if s.async {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("%s is not done after %s; it goes on without us", what, s.timeout))
	defer cancel()
	live := false
	if f, ok := s.err.(*os.File); ok {
		live = isatty.IsTerminal(f.Fd())
	}
	start, last := time.Now(), ""
	pause := 50 * time.Millisecond
	end := func() {
		if live && last != "" {
			fmt.Fprintln(s.err)
		}
	}
	for {
		state, done, err := look(ctx)
		if ctx.Err() != nil {
			end()
			return context.Cause(ctx)
		}
		if !done && passing(err) {
			state, err = "the endpoint does not answer", nil
		}
		if state != "" && (live || state != last) {
			line := fmt.Sprintf("%s: %s (%s)", what, printable(state), time.Since(start).Round(time.Second))
			if live {
				fmt.Fprintf(s.err, "\r\x1b[K%s", line)
			} else {
				fmt.Fprintln(s.err, line)
			}
			last = state
		}
		if err != nil || done {
			end()
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(pause*3/2, time.Second)
	}
}

// passing tells whether a failed look at the cloud is worth another: the controller may be restarting, or
// have no time for us just now.
func passing(err error) bool {
	var refused *Error
	var transport *url.Error
	if errors.As(err, &refused) {
		return refused.Code == int(retcode.ServiceError) || refused.Code == int(retcode.TooManyRequests) || refused.Code == int(retcode.SystemBusy)
	}
	return errors.As(err, &transport)
}

// kind of resource that commands find, list and complete.
type kind struct {
	name     string // for people
	describe string // the action that lists it
	ids      string // its filter by ids; empty: it has none
	id       string // the field with the id
	state    string // the field with the state
	prefix   string // how its ids begin
	columns  []column
}

// get reads one by id; nil when there is none.
func (k *kind) get(ctx context.Context, s *session, id string) (object, error) {
	p := Params{k.ids: []string{id}}
	if k.ids == "" {
		p = Params{}
	}
	all, err := s.list(ctx, k.describe, p)
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		if o.text(k.id) == id {
			return o, nil
		}
	}
	return nil, nil
}

// find turns what people type, an id or a whole name, into the resource.
func (k *kind) find(ctx context.Context, s *session, ref string) (object, error) {
	if strings.HasPrefix(ref, k.prefix) {
		if o, err := k.get(ctx, s, ref); o != nil || err != nil {
			return o, err
		}
	}
	all, err := s.list(ctx, k.describe, Params{"Keyword": ref})
	if err != nil {
		return nil, err
	}
	var found []object
	for _, o := range all {
		if o.text("Name") == ref || o.text(k.id) == ref {
			found = append(found, o)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("there is no %s %s", k.name, ref)
	case 1:
		return found[0], nil
	}
	ids := make([]string, len(found))
	for i, o := range found {
		ids[i] = o.text(k.id)
	}
	return nil, fmt.Errorf("%d %ss are named %s: %s", len(found), k.name, ref, strings.Join(ids, ", "))
}

// first returns the first of a list, for defaults.
func (k *kind) first(ctx context.Context, s *session, p Params) (object, error) {
	all, err := s.list(ctx, k.describe, p)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("there is no %s to take by default", k.name)
	}
	return all[0], nil
}

// complete offers ids with their names to the shell.
func (k *kind) complete(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if cmd.Args != nil && cmd.Args(cmd, append(args, "x")) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var set settings
	set.profile, _ = cmd.Flags().GetString("profile")
	set.region, _ = cmd.Flags().GetString("region")
	set.ca, _ = cmd.Flags().GetString("ca")
	s, err := open(set)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	all, err := s.list(ctx, k.describe, nil)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	out := make([]string, len(all))
	for i, o := range all {
		out[i] = o.text(k.id) + "\t" + printable(o.text("Name"))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// on gives a command whose first arguments are resources of this kind its completion.
func (k *kind) on(cmd *cobra.Command) *cobra.Command {
	cmd.ValidArgsFunction = k.complete
	return cmd
}

// flag gives a flag that takes a resource of this kind its completion.
func (k *kind) flag(cmd *cobra.Command, names ...string) {
	for _, n := range names {
		cmd.RegisterFlagCompletionFunc(n, func(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			return k.complete(cmd, nil, toComplete)
		})
	}
}

// listCommand lists resources of this kind.
func (k *kind) listCommand() *cobra.Command {
	var keyword string
	cmd := command("list", "List them", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		all, err := s.list(ctx, k.describe, Params{"Keyword": keyword})
		if err != nil {
			return err
		}
		return s.show(all, k.columns)
	})
	cmd.Aliases = []string{"ls"}
	cmd.Flags().StringVar(&keyword, "keyword", "", "only those with this text in name or id")
	return cmd
}

// showCommand shows one resource of this kind.
func (k *kind) showCommand() *cobra.Command {
	return k.on(command("show "+strings.ToUpper(k.name), "Show one", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		o, err := k.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		return s.detail(o, k.columns)
	}))
}

// settle waits until a resource has left the given transient states, and compares with what was wanted.
func (k *kind) settle(ctx context.Context, s *session, id string, transient []string, wanted ...string) (o object, err error) {
	err = s.wait(ctx, id, func(ctx context.Context) (string, bool, error) {
		var err error
		if o, err = k.get(ctx, s, id); err != nil {
			return "", false, err
		}
		if o == nil {
			return "gone", true, fmt.Errorf("%s is gone", id)
		}
		state := o.text(k.state)
		for _, w := range wanted {
			if state == w {
				return state, true, nil
			}
		}
		for _, t := range transient {
			if state == t {
				return state, false, nil
			}
		}
		return state, true, failed(id, state, o.text("Reason"))
	})
	if s.async && err == nil {
		o, err = k.get(ctx, s, id)
	}
	return o, err
}

func failed(id, state, reason string) error {
	if reason == "" {
		return fmt.Errorf("%s is %s; see `lingyun log list`", id, state)
	}
	return fmt.Errorf("%s is %s: %s", id, state, reason)
}

// each runs f for every argument and joins the failures, so that one does not keep the rest waiting.
func each(args []string, f func(ref string) error) error {
	var errs []error
	for _, a := range args {
		errs = append(errs, f(a))
	}
	return errors.Join(errs...)
}
