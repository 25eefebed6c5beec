package controller_test

import (
	"path/filepath"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/workflow/workflowtest"
)

// Every workflow that a controller runs passes the generic tests in its product's room.
func TestEveryWorkflowIsProven(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{})
	rooms, err := filepath.Glob("../cloud/*")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Engine.Workflows()) == 0 {
		t.Error("no workflow is registered")
	}
	workflowtest.Registry(t, c.Engine, rooms...)
}
