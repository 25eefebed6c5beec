package contract

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/action"
)

type start struct {
	VMID string `validate:"required" doc:"id"`
	action.Tenant
}

func define[Q, R any](s action.Spec) action.Action {
	return action.Define(s, func(context.Context, *action.Call, *Q) (*R, error) { return nil, nil })
}

func TestContractIsRead(t *testing.T) {
	c, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.published) != 245 || len(c.added) != 270 || len(c.extended) != 64 {
		t.Fatalf("read %d published, %d added, %d extended actions", len(c.published), len(c.added), len(c.extended))
	}
}

func TestAnActionOfTheContractPasses(t *testing.T) {
	c, _ := Load("")
	good := define[start, action.Empty](action.Spec{Name: "StartVMInstance", Module: "vm", Summary: "Start.", Mutates: true})
	if d := c.Differences([]action.Action{good}); len(d) > 0 {
		t.Errorf("%s", strings.Join(d, "\n"))
	}
	if p, a := c.Count([]action.Action{good}); p != 1 || a != 0 {
		t.Errorf("counted %d, %d", p, a)
	}
	if s := c.Table([]action.Action{good}); !strings.Contains(s, "| `StartVMInstance` | Start. | required | **VMID** string, CompanyID int, MemberID int |") {
		t.Errorf("%s", s)
	}
}

func TestEveryDifferenceIsSeen(t *testing.T) {
	c, _ := Load("`OurOwn` and `StartVMInstance.Extra`")
	spec := action.Spec{Name: "StartVMInstance", Module: "vm", Summary: "Start."}
	for name, k := range map[string]struct {
		a    action.Action
		want string
	}{
		"module":    {define[start, action.Empty](action.Spec{Name: "StartVMInstance", Module: "eip", Summary: "x"}), `module "eip"`},
		"region":    {define[start, action.Empty](action.Spec{Name: "StartVMInstance", Module: "vm", Summary: "x", Region: action.RegionNone}), "region mode"},
		"admin":     {define[start, action.Empty](action.Spec{Name: "StartVMInstance", Module: "vm", Summary: "x", Admin: true}), "Admin is true"},
		"unknown":   {define[start, action.Empty](action.Spec{Name: "Nothing", Module: "vm", Summary: "x", Extension: true}), "neither"},
		"extension": {define[start, action.Empty](action.Spec{Name: "StartVMInstance", Module: "vm", Summary: "x", Extension: true}), "Extension is true"},
		"optional": {define[struct {
			VMID string `doc:"id"`
			action.Tenant
		}, action.Empty](spec), "required is false"},
		"type": {define[struct {
			VMID int `validate:"required" doc:"id"`
			action.Tenant
		}, action.Empty](spec), "type int"},
		"missing": {define[action.Tenant, action.Empty](spec), "parameter is missing"},
		"undocument": {define[struct {
			VMID string `validate:"required"`
			action.Tenant
		}, action.Empty](spec), "no doc"},
		"extra": {define[struct {
			Odd string `doc:"x"`
			start
		}, action.Empty](spec), "no such parameter"},
		"field": {define[start, struct{ Odd string }](spec), "no such field"},
		"lacks": {define[struct{ action.Tenant }, struct{ TotalCount int }](action.Spec{Name: "DescribeVMType", Module: "cluster", Summary: "x"}), "DescribeVMType.Infos: the answer lacks"},
		"nested": {define[struct{ action.Tenant }, struct {
			TotalCount int
			Infos      []struct{ Region int }
		}](action.Spec{Name: "DescribeVMType", Module: "cluster", Summary: "x"}), "DescribeVMType.Infos.Region: answers int"},
		"default": {define[struct {
			Quantity int `doc:"x"`
		}, action.Empty](action.Spec{Name: "AllocateEIP", Module: "eip", Summary: "x"}), `AllocateEIP.Quantity: default ""`},
		"range": {define[struct {
			Bandwidth int `doc:"x" validate:"required,max=100"`
		}, action.Empty](action.Spec{Name: "AllocateEIP", Module: "eip", Summary: "x"}), "maximum 100, want 10000"},
		"enum": {define[struct {
			ChargeType string `doc:"x" validate:"required,oneof=Day"`
		}, action.Empty](action.Spec{Name: "AllocateEIP", Module: "eip", Summary: "x"}), "allows [Day]"},
	} {
		if d := c.Differences([]action.Action{k.a}); !slices.ContainsFunc(d, func(s string) bool { return strings.Contains(s, k.want) }) {
			t.Errorf("%s: %q is not among\n%s", name, k.want, strings.Join(d, "\n"))
		}
	}
	ours := define[struct {
		Extra string `doc:"x"`
		start
	}, action.Empty](spec)
	if d := c.Differences([]action.Action{ours, define[start, action.Empty](action.Spec{Name: "OurOwn", Summary: "x", Extension: true})}); len(d) > 0 {
		t.Errorf("what docs/api-extensions.md lists is refused:\n%s", strings.Join(d, "\n"))
	}
}
