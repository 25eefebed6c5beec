// Package contract holds the table of actions against the API's contract, of
// which testdata has copies: actions.yaml (the published API) and
// extensions.yaml (what the product adds to it).
package contract

import (
	_ "embed"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode/proof"
)

//go:embed testdata/actions.yaml
var actionsYAML []byte

//go:embed testdata/extensions.yaml
var extensionsYAML []byte

// entry is an action of the contract, or what extensions add to one.
type entry struct {
	Name     string
	Extends  string
	Module   string
	Region   string
	Admin    bool
	Request  []item
	Response []item
}

// item is a parameter or a field of the answer.
type item struct {
	Name     string
	Type     string
	Required bool
	Enum     []any
	Min, Max any
	MinLen   any `yaml:"min_length"`
	MaxLen   any `yaml:"max_length"`
	Default  any
	Model    string
	Note     string
	Fields   []item
}

// Contract is the published API with its extensions.
type Contract struct {
	published map[string]entry // of actions.yaml
	added     map[string]entry // new actions of extensions.yaml
	extended  map[string]entry // what extensions.yaml adds to published actions
	ours      map[string]bool  // words in backquotes of docs/api-extensions.md
}

// Load reads the embedded copies. ours is the text of docs/api-extensions.md, which lists what is in neither.
func Load(ours string) (*Contract, error) {
	c := &Contract{map[string]entry{}, map[string]entry{}, map[string]entry{}, map[string]bool{}}
	for _, raw := range [][]byte{actionsYAML, extensionsYAML} {
		var doc struct{ Actions []entry }
		if err := yaml.Unmarshal(raw, &doc); err != nil {
			return nil, err
		}
		for _, e := range doc.Actions {
			switch {
			case e.Extends != "":
				c.extended[e.Extends] = e
			case &raw[0] == &actionsYAML[0]:
				c.published[e.Name] = e
			default:
				c.added[e.Name] = e
			}
		}
	}
	for _, m := range regexp.MustCompile("`([A-Za-z0-9.]+)`").FindAllStringSubmatch(ours, -1) {
		c.ours[m[1]] = true
	}
	return c, nil
}

// Check fails the test for every difference between the table and the contract, and prints how
// much of the contract is there.
func Check(t *testing.T, actions []action.Action) {
	t.Helper()
	ours, err := os.ReadFile(filepath.Join(root(t), "docs", "api-extensions.md"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	c, err := Load(string(ours))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range c.Differences(actions) {
		t.Error(d)
	}
	published, added := c.Count(actions)
	lines := fmt.Sprintf("actions: %d of %d\nextensions: %d of %d\n", published, len(c.published), added, len(c.added))
	t.Log("\n" + lines)
	if dir := os.Getenv(proof.Env); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "contract.count"), []byte(lines), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// root is the folder with go.mod.
func root(t *testing.T) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}

// Count tells how many actions of the contract and of its extensions are in the table.
func (c *Contract) Count(actions []action.Action) (published, added int) {
	for _, a := range actions {
		if _, ok := c.published[a.Name]; ok {
			published++
		} else if _, ok := c.added[a.Name]; ok {
			added++
		}
	}
	return published, added
}

// Differences lists what is wrong, one line each, sorted.
func (c *Contract) Differences(actions []action.Action) []string {
	var d differences
	seen := map[string]bool{}
	for _, a := range actions {
		if seen[a.Name] {
			d.add(a.Name, "is registered twice")
		}
		seen[a.Name] = true
		e, published := c.published[a.Name]
		if !published {
			var ok bool
			if e, ok = c.added[a.Name]; !ok {
				if !c.ours[a.Name] {
					d.add(a.Name, "is in neither actions.yaml nor extensions.yaml nor docs/api-extensions.md")
				}
				if !a.Extension {
					d.add(a.Name, "is no published action: its Spec must say Extension")
				}
				continue
			}
		}
		if a.Extension == published {
			d.add(a.Name, "Extension is %v", a.Extension)
		}
		if a.Module != e.Module {
			d.add(a.Name, "module %q, want %q", a.Module, e.Module)
		}
		if want := map[string]action.RegionMode{"required": action.RegionRequired, "optional": action.RegionOptional, "none": action.RegionNone}[e.Region]; a.Region != want {
			d.add(a.Name, "region mode %d, want %s", a.Region, e.Region)
		}
		if a.Admin != e.Admin {
			d.add(a.Name, "Admin is %v, want %v", a.Admin, e.Admin)
		}
		if a.Summary == "" {
			d.add(a.Name, "has no summary")
		}
		c.parameters(&d, a, e)
		c.fields(&d, a.Name, e.Response, a.Response(), c.extraFields(a.Name))
	}
	sort.Strings(d)
	return d
}

type differences []string

func (d *differences) add(where, format string, args ...any) {
	*d = append(*d, where+": "+fmt.Sprintf(format, args...))
}

// common parameters may be added to any action.
var common = []string{"CompanyID", "MemberID", "Offset", "Limit"}

func (c *Contract) parameters(d *differences, a action.Action, e entry) {
	have := map[string]action.Parameter{}
	for _, p := range a.Parameters() {
		have[p.Name] = p
		for _, alias := range p.Aliases {
			if _, ok := have[alias]; !ok {
				p := p
				p.Required = false // the other name alone is not
				have[alias] = p
			}
		}
	}
	known := map[string]bool{}
	for _, want := range e.Request {
		known[want.Name] = true
		got, ok := have[want.Name]
		if !ok {
			d.add(a.Name+"."+want.Name, "the parameter is missing")
			continue
		}
		parameter(d, a.Name+"."+want.Name, want, got)
	}
	for _, want := range c.extended[a.Name].Request {
		known[want.Name] = true
		if got, ok := have[want.Name]; ok {
			parameter(d, a.Name+"."+want.Name, want, got)
		}
	}
	for _, p := range a.Parameters() {
		if !known[p.Name] && !slices.Contains(common, p.Name) && !c.ours[a.Name+"."+p.Name] {
			d.add(a.Name+"."+p.Name, "the contract has no such parameter: list it in docs/api-extensions.md as `%s.%s`", a.Name, p.Name)
		}
		if p.Doc == "" {
			d.add(a.Name+"."+p.Name, "has no doc")
		}
	}
}

func parameter(d *differences, where string, want item, got action.Parameter) {
	paging := got.Name == "Offset" || got.Name == "Limit" // a string in older clients: the decoder takes both
	if got.Type != want.Type && !(paging && got.Type == "int") {
		d.add(where, "type %s, want %s", got.Type, want.Type)
	}
	if got.Required != want.Required {
		d.add(where, "required is %v, want %v", got.Required, want.Required)
	}
	if len(want.Enum) > 0 && len(got.Enum) > 0 {
		values := make([]string, len(want.Enum))
		for i, v := range want.Enum {
			values[i] = fmt.Sprint(v)
		}
		have := slices.Clone(got.Enum)
		// A value that only the note knows may be allowed, too: what older or newer clients send.
		have = slices.DeleteFunc(have, func(v string) bool { return !slices.Contains(values, v) && slices.Contains(words(want.Note), v) })
		slices.Sort(values)
		slices.Sort(have)
		if !slices.Equal(values, have) {
			d.add(where, "allows %v, want %v", have, values)
		}
	}
	if want.Default != nil && !want.Required {
		text := fmt.Sprint(want.Default)
		zero := text == "" || text == "0" || text == "false"
		if got.Default != text && !(zero && got.Default == "") {
			d.add(where, "default %q, want %q", got.Default, text)
		}
	}
	lower, upper := want.Min, want.Max
	if lower == nil {
		lower = want.MinLen
	}
	if upper == nil {
		upper = want.MaxLen
	}
	bound := func(which string, want any, got string) {
		if want != nil && got != "" && fmt.Sprint(want) != got {
			d.add(where, "%s %s, want %v", which, got, want)
		}
	}
	// Every list answers the count alone with Limit 0, as the published ones do.
	if !(got.Name == "Limit" && got.Min == "0") {
		bound("minimum", lower, got.Min)
	}
	bound("maximum", upper, got.Max)
}

// extraFields are the words of the answer's part of an extension: its names and the lists in its notes.
func (c *Contract) extraFields(name string) map[string]bool {
	all := map[string]bool{}
	var collect func([]item)
	collect = func(items []item) {
		for _, i := range items {
			all[i.Name] = true
			for _, w := range words(i.Note) {
				all[w] = true
			}
			collect(i.Fields)
		}
	}
	collect(c.extended[name].Response)
	return all
}

// words of a note.
func words(note string) []string { return regexp.MustCompile(`[A-Za-z0-9-]+`).FindAllString(note, -1) }

// extraOf are the words that extensions add to a model, by way of any action that answers it.
func (c *Contract) extraOf(model string) map[string]bool {
	all := map[string]bool{}
	for name := range c.extended {
		if slices.ContainsFunc(c.published[name].Response, func(i item) bool { return i.Model == model }) {
			maps.Copy(all, c.extraFields(name))
		}
	}
	return all
}

// fields compares an answer, nested ones too. Every field of the contract is demanded.
func (c *Contract) fields(d *differences, where string, want []item, have []action.Field, extra map[string]bool) {
	known := map[string]action.Field{}
	for _, f := range have {
		known[f.Name] = f
	}
	wanted := map[string]bool{}
	for _, w := range want {
		wanted[w.Name] = true
		f, ok := known[w.Name]
		if !ok {
			d.add(where+"."+w.Name, "the answer lacks the field")
			continue
		}
		typ := w.Type
		if strings.Contains(w.Note, "send an int") {
			typ = "int"
		} else if strings.Contains(w.Note, "send a string") {
			typ = "string"
		}
		if f.Type != typ {
			d.add(where+"."+w.Name, "answers %s, want %s", f.Type, typ)
		}
		if len(w.Fields) > 0 {
			below := maps.Clone(extra)
			if w.Model != "" {
				maps.Copy(below, c.extraOf(w.Model))
			}
			c.fields(d, where+"."+w.Name, w.Fields, f.Fields, below)
		}
	}
	action, _, _ := strings.Cut(where, ".")
	for _, f := range have {
		if !wanted[f.Name] && !extra[f.Name] && !c.ours[action+"."+f.Name] {
			d.add(where+"."+f.Name, "the contract has no such field: list it in docs/api-extensions.md as `%s.%s`", action, f.Name)
		}
	}
}

// Table renders docs/actions.md: every action of the table with its module and parameters, and
// what of the contract is still to come.
func (c *Contract) Table(actions []action.Action) string {
	published, added := c.Count(actions)
	var b strings.Builder
	fmt.Fprintf(&b, "# Actions\n\nGenerated from the table of actions; the whole description is `GET /api/openapi.json`.\n"+
		"There are %d of the %d published actions and %d of the %d extensions.\n\n"+
		"**Bold** parameters are required; `[]` marks lists (`Name.0=a`, or a JSON array); *admin* actions are for platform\n"+
		"administrators. `CompanyID` and `MemberID` act for a tenant and an account: administrators may name any, others their own.\n",
		published, len(c.published), added, len(c.added))
	sorted := slices.Clone(actions)
	sort.SliceStable(sorted, func(i, j int) bool {
		if sorted[i].Module != sorted[j].Module {
			return sorted[i].Module < sorted[j].Module
		}
		return sorted[i].Name < sorted[j].Name
	})
	module := ""
	for _, a := range sorted {
		if a.Module != module {
			module = a.Module
			fmt.Fprintf(&b, "\n## %s\n\n| Action | What it does | Region | Parameters |\n| --- | --- | --- | --- |\n", module)
		}
		name := "`" + a.Name + "`"
		if a.Admin {
			name += " *admin*"
		}
		if a.Anonymous {
			name += " *no credential*"
		}
		var ps []string
		for _, p := range a.Parameters() {
			ps = append(ps, parameterCell(p))
		}
		region := map[action.RegionMode]string{action.RegionRequired: "required", action.RegionOptional: "optional", action.RegionNone: "-"}[a.Region]
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, cell(a.Summary), region, strings.Join(ps, ", "))
	}
	return b.String()
}

func parameterCell(p action.Parameter) string {
	s := p.Name
	if p.Required {
		s = "**" + s + "**"
	}
	s += " " + p.Type
	switch {
	case len(p.Enum) > 0:
		s += " (" + cell(strings.Join(p.Enum, ", ")) + ")"
	case p.Min != "" && p.Max != "":
		s += " (" + p.Min + "–" + p.Max + ")"
	case p.Max != "":
		s += " (≤ " + p.Max + ")"
	case p.Min != "":
		s += " (≥ " + p.Min + ")"
	}
	if p.Default != "" {
		if _, err := strconv.ParseFloat(p.Default, 64); err != nil || p.Default != "0" {
			s += " = " + p.Default
		}
	}
	return s
}

func cell(s string) string { return strings.NewReplacer("|", "\\|", "\n", " ").Replace(s) }

// CheckTable fails the test when docs/actions.md is not what the table gives. With LINGYUN_WRITE
// set in the environment it writes the file instead.
func CheckTable(t *testing.T, actions []action.Action) {
	t.Helper()
	c, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	path, want := filepath.Join(root(t), "docs", "actions.md"), c.Table(actions)
	if os.Getenv("LINGYUN_WRITE") != "" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Error("docs/actions.md is not what the table of actions gives: run `LINGYUN_WRITE=1 go test -run TestContract ./internal/controller`")
	}
}
