package retcode

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestCatalogueIsWhole(t *testing.T) {
	if len(All) != 213 {
		t.Fatalf("the contract has 213 codes, the table %d", len(All))
	}
	seen := map[Code]bool{}
	for _, e := range All {
		if seen[e.Code] {
			t.Errorf("code %d twice", e.Code)
		}
		seen[e.Code] = true
		if e.ZH == "" || e.EN == "" || e.When == "" {
			t.Errorf("code %d lacks a message or a condition", e.Code)
		}
	}
}

func TestGeneratedIsCurrent(t *testing.T) {
	before, err := os.ReadFile("codes.go")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	raw, err := os.ReadFile("retcodes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "retcodes.yaml"), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "gen")
	if out, err := exec.Command("go", "build", "-o", bin, "./gen").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(bin)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	after, err := os.ReadFile(filepath.Join(dir, "codes.go"))
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("codes.go is not what retcodes.yaml gives: run go generate ./internal/retcode")
	}
}

func TestMessages(t *testing.T) {
	err := fmt.Errorf("while testing: %w", VMNotFound.Errorf("no VM %s", "vm-x").Wrap(errors.New("secret cause")))
	if Of(err) != VMNotFound {
		t.Errorf("code %d", Of(err))
	}
	if got, want := Message(err, English), "The virtual machine does not exist: no VM vm-x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Message(err, Chinese); !strings.HasPrefix(got, "虚拟机不存在: ") || strings.Contains(got, "secret") {
		t.Errorf("got %q", got)
	}
	if got := Message(errors.New("inner"), English); got != "Service error, contact the platform administrators" {
		t.Errorf("an error without a code answers %q", got)
	}
	if Of(nil) != OK || Message(nil, English) != "" {
		t.Error("success has code 0 and the empty message")
	}
}

var verb = regexp.MustCompile(`%(\[\d+\])?[-+# 0]*[\d.]*[a-zA-Z]`)

// TestDetailsAreBilingual reads every call CODE.Errorf("format", ...) of the project.
func TestDetailsAreBilingual(t *testing.T) {
	symbols := map[string]bool{}
	for _, e := range All {
		symbols[e.Symbol] = true
	}
	used := map[string]string{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." && len(d.Name()) > 2 || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Errorf" {
				return true
			}
			// fmt.Errorf and t.Errorf are not ours.
			if x, ok := sel.X.(*ast.Ident); ok && (x.Name == "fmt" || x.Name == "t" || x.Name == "b") {
				return true
			}
			lit, ok := call.Args[0].(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				t.Errorf("%s: the format of Errorf must be a literal", fset.Position(call.Pos()))
				return true
			}
			format, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Error(err)
			}
			used[format] = fset.Position(call.Pos()).String()
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for format, pos := range used {
		zh, ok := detailZH[format]
		if !ok {
			missing = append(missing, fmt.Sprintf("\t%q: \"\", // %s", format, pos))
			continue
		}
		if got, want := len(verb.FindAllString(strings.ReplaceAll(zh, "%%", ""), -1)), len(verb.FindAllString(strings.ReplaceAll(format, "%%", ""), -1)); got != want {
			t.Errorf("%q has %d verbs, its Chinese %q has %d", format, want, zh, got)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		t.Errorf("add the Chinese wording to detail_zh.go:\n%s", strings.Join(missing, "\n"))
	}
	for format := range detailZH {
		if _, ok := used[format]; !ok {
			t.Errorf("detail_zh.go translates a detail that nothing raises: %q", format)
		}
	}
}
