package controller_test

import (
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/action/contract"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
)

// TestContract holds every action of the whole table against the API's contract.
func TestContract(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{})
	actions := c.Actions()
	contract.Check(t, actions)
	contract.CheckTable(t, actions)
}
