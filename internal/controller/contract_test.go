package controller_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/action/contract"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
)

// TestContract holds every registered action against the API's contract, and docs/actions.md
// against the table.
func TestContract(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	contract.Check(t, c.Actions())
	contract.CheckTable(t, c.Actions())

	w, err := http.Get(strings.TrimSuffix(c.URL, "/") + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	var doc struct {
		OpenAPI string
		Paths   map[string]any
	}
	if err := json.NewDecoder(w.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" || len(doc.Paths) != len(c.Actions()) {
		t.Errorf("OpenAPI %q describes %d of %d actions", doc.OpenAPI, len(doc.Paths), len(c.Actions()))
	}
}
