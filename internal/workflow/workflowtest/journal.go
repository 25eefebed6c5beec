package workflowtest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// journal is what a release remembers of an operation whose checkpointed steps have all
// finished: testdata/journals/WORKFLOW[@RELEASE].json beside the product's tests. Never
// edit one; add another when a release changes the state.
type journal struct {
	Workflow string
	Input    json.RawMessage
	Steps    []finished // all but the last

	names []string
	last  string // the step after Steps on this release
}

type finished struct {
	Name  string
	State json.RawMessage
}

func journalPattern(dir, workflow string) string {
	return filepath.Join(dir, "testdata", "journals", workflow+"*.json")
}

func (j *journal) write(t *testing.T) string {
	t.Helper()
	b, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "journals", j.Workflow+".json")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func read(t *testing.T, file string) *journal {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	j := new(journal)
	if err := json.Unmarshal(b, j); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for _, s := range j.Steps {
		j.names = append(j.names, s.Name)
	}
	return j
}

// translate gives fresh's values (ids of this run) the shape of old: what old has not is
// absent, what only old has stays as it was.
func translate(old, fresh []byte) ([]byte, error) {
	var o, f any
	if err := json.Unmarshal(old, &o); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(fresh))
	d.UseNumber()
	if err := d.Decode(&f); err != nil {
		return nil, err
	}
	return json.Marshal(shape(o, f))
}

func shape(old, fresh any) any {
	switch o := old.(type) {
	case map[string]any:
		f, ok := fresh.(map[string]any)
		if !ok {
			return old
		}
		out := map[string]any{}
		for k, v := range o {
			if fv, ok := f[k]; ok {
				out[k] = shape(v, fv)
			} else {
				out[k] = v
			}
		}
		return out
	case []any:
		f, ok := fresh.([]any)
		if !ok || len(f) != len(o) {
			return fresh
		}
		out := make([]any, len(o))
		for i := range o {
			out[i] = shape(o[i], f[i])
		}
		return out
	}
	return fresh
}

// Registry fails for every workflow of the engine that no product proves: one needs a
// journal in DIR/testdata/journals of one of dirs, and a test there that names it.
func Registry(t *testing.T, e *workflow.Engine, dirs ...string) {
	t.Helper()
	for _, name := range e.Workflows() {
		if !slices.ContainsFunc(dirs, func(dir string) bool { return proves(t, dir, name) }) {
			t.Errorf("workflow %s has no workflowtest.Case", name)
		}
	}
}

func proves(t *testing.T, dir, name string) bool {
	t.Helper()
	journals, err := filepath.Glob(journalPattern(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	tests, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return len(journals) > 0 && slices.ContainsFunc(tests, func(file string) bool {
		b, err := os.ReadFile(file)
		return err == nil && bytes.Contains(b, []byte(`"`+name+`"`))
	})
}

// canonical is v as JSON values with arrays in an order of their own.
func canonical(t *testing.T, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return sorted(out, func(s string) string { return s })
}

var names = []struct {
	re *regexp.Regexp
	as string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uuid>"},
	{regexp.MustCompile(`\b([a-z][a-z_]*)-[a-z0-9]{14}\b`), "$1-<id>"},
	{regexp.MustCompile(`\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`), "<mac>"},
}

// anonymous replaces ids, UUIDs and MAC addresses, which differ between worlds.
func anonymous(v any) any {
	return sorted(v, func(s string) string {
		for _, n := range names {
			s = n.re.ReplaceAllString(s, n.as)
		}
		return s
	})
}

func sorted(v any, name func(string) string) any {
	switch v := v.(type) {
	case string:
		return name(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = sorted(v[i], name)
		}
		slices.SortFunc(out, func(a, b any) int {
			x, _ := json.Marshal(a)
			y, _ := json.Marshal(b)
			return bytes.Compare(x, y)
		})
		return out
	case map[string]any:
		// Two keys may have become one: keep all their values.
		all := map[string][]any{}
		for k, x := range v {
			all[name(k)] = append(all[name(k)], x)
		}
		out := map[string]any{}
		for k, x := range all {
			if len(x) == 1 {
				out[k] = sorted(x[0], name)
			} else {
				out[k] = sorted(x, name)
			}
		}
		return out
	}
	return v
}
