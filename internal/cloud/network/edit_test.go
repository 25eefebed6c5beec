package network

import (
	"context"
	"fmt"
	"regexp"
	"testing"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/workflow/workflowtest"
)

var (
	symbolForm = regexp.MustCompile(`(vpc|sg|subnet|nic|vip)[_-][a-z0-9]{14}`)
	labelForm  = regexp.MustCompile(`label( ==|=) ?[0-9]+`)
	endForm    = regexp.MustCompile(`(169\.254\.[0-9]+)\.[0-9]+`)
)

// innerSnapshot is all that changes inside VPCs touch.
func (f *fixture) innerSnapshot(t *testing.T) any {
	t.Helper()
	out := map[string]any{"rest": f.snapshot(t)}
	for name, query := range map[string]string{
		"vpcs":     "SELECT name, cidr, state, gateway_on FROM vpc WHERE ended_at = 0 ORDER BY created_at, id",
		"subnets":  "SELECT name, cidr, state, used FROM subnet WHERE ended_at = 0 ORDER BY created_at, id",
		"routes":   "SELECT destination, hop_type, hop, remark, state FROM route ORDER BY destination, subnet_id",
		"peerings": "SELECT num, state FROM peering ORDER BY num",
		"nics":     "SELECT name, kind, bandwidth, state, bind_id FROM nic WHERE ended_at = 0 ORDER BY name",
		"vips":     "SELECT name, carried_by, bandwidth, state FROM vip WHERE ended_at = 0 ORDER BY name",
		"carriers": "SELECT resource_id FROM vip_carrier ORDER BY resource_id",
		"charges":  "SELECT name, state, LENGTH(next_items) AS next FROM charge ORDER BY name",
		"orders":   "SELECT product, type, state, COUNT(*) AS n FROM ledger_order WHERE state <> 'Void' GROUP BY product, type, state ORDER BY product, type, state",
		"held":     "SELECT kind, balance FROM ledger_account WHERE kind IN ('HELD_REAL', 'HELD_FREE') ORDER BY kind",
		"owners":   "SELECT ip, owner_kind, host_id, kept, in_mbps, out_mbps FROM port ORDER BY ip",
	} {
		var rows []map[string]any
		if err := f.DB.Reader().NewRaw(query).Scan(t.Context(), &rows); err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, r := range rows {
			texts = append(texts, fmt.Sprint(r))
		}
		out[name] = texts
	}
	vpcs, _, err := f.memory.Present(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, id := range vpcs {
		for _, row := range f.memory.Rows(id) {
			told = append(told, labelForm.ReplaceAllString(endForm.ReplaceAllString(symbolForm.ReplaceAllString(row, "$1"), "$1.end"), "label")) // without what differs between worlds
		}
	}
	outer, err := f.memory.PresentOuterPorts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var carry []string // what outer ports may announce
	for _, id := range outer {
		p, _ := f.memory.OuterPort(id)
		for _, v := range p.Virtuals {
			carry = append(carry, fmt.Sprint(v.IP, " at ", v.Mbps))
		}
	}
	out["told"], out["outer"], out["carry"] = told, len(outer), carry
	f.plugged.Range(func(id, n any) bool {
		out["plugged into "+id.(string)] = n
		return true
	})
	return out
}

// proveEdit runs the generic tests of a workflow. prepare makes the world and returns the request.
func proveEdit(t *testing.T, name string, prepare func(t *testing.T, f *fixture) (request func(t *testing.T))) {
	t.Helper()
	workflowtest.Run(t, workflowtest.Case{Workflow: name, New: func(t *testing.T) *workflowtest.World {
		f := newFixture(t, dbtest.SQLite(t))
		f.start(t)
		request := prepare(t, f)
		return &workflowtest.World{Engine: f.Engine, DB: f.DB, Snapshot: f.innerSnapshot, Start: request}
	}})
}

// vpcOf makes a VPC with subnets and waits until they are Available.
func (f *fixture) vpcOf(t *testing.T, network string, subnets ...string) (vpc string, ids []string) {
	t.Helper()
	r, err := f.createVPC(t.Context(), call("CreateVPC"), &createVPCRequest{Name: "net", Network: network, EnableGateway: true})
	if err != nil {
		t.Fatal(err)
	}
	f.ready(t, "vpc", r.VPCID)
	for _, n := range subnets {
		s, err := f.createSubnet(t.Context(), call("CreateSubnet"), &createSubnetRequest{Name: "sub", VPCID: r.VPCID, Network: n})
		if err != nil {
			t.Fatal(err)
		}
		f.ready(t, "subnet", s.SubnetID)
		ids = append(ids, s.SubnetID)
	}
	return r.VPCID, ids
}

// ready waits until a row is Available and nothing works on it.
func (f *fixture) ready(t *testing.T, table, id string) {
	t.Helper()
	until(t, id+" is Available", func() bool {
		var state string
		if err := f.DB.Reader().NewSelect().TableExpr("?", bun.Ident(table)).Column("state").Where("id = ?", id).Scan(t.Context(), &state); err != nil {
			t.Fatal(err)
		}
		return state == Available
	})
}

// portIn reserves a port of a machine.
func (f *fixture) portIn(t *testing.T, vm, vpc, subnet, ip string) *Port {
	t.Helper()
	var port *Port
	f.transact(t, func(ctx context.Context, tx bun.Tx) (err error) {
		port, err = f.ReservePort(ctx, tx, PortRequest{Scope: action.Scope{Region: region, Company: company}, VPCID: vpc, SubnetID: subnet, IP: ip, Owner: Owner{VM, vm}, HostID: "host-1"})
		return err
	})
	return port
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestVPCWorkflows(t *testing.T) {
	t.Run("create", func(t *testing.T) {
		proveEdit(t, "vpc.create", func(t *testing.T, f *fixture) func(*testing.T) {
			return func(t *testing.T) {
				_, err := f.createVPC(t.Context(), call("CreateVPC"), &createVPCRequest{Name: "net", Network: "192.168.0.0/16"})
				must(t, err)
			}
		})
	})
	t.Run("delete", func(t *testing.T) {
		proveEdit(t, "vpc.delete", func(t *testing.T, f *fixture) func(*testing.T) {
			vpc, _ := f.vpcOf(t, "192.168.0.0/16")
			return func(t *testing.T) {
				_, err := f.deleteVPC(t.Context(), call("DeleteVPC"), &deleteVPCRequest{VPCID: vpc})
				must(t, err)
			}
		})
	})
	t.Run("create subnet", func(t *testing.T) {
		proveEdit(t, "subnet.create", func(t *testing.T, f *fixture) func(*testing.T) {
			vpc, _ := f.vpcOf(t, "192.168.0.0/16")
			return func(t *testing.T) {
				_, err := f.createSubnet(t.Context(), call("CreateSubnet"), &createSubnetRequest{Name: "sub", VPCID: vpc, Network: "192.168.7.0/24"})
				must(t, err)
			}
		})
	})
	t.Run("delete subnet", func(t *testing.T) {
		proveEdit(t, "subnet.delete", func(t *testing.T, f *fixture) func(*testing.T) {
			_, subnets := f.vpcOf(t, "192.168.0.0/16", "192.168.7.0/24")
			return func(t *testing.T) {
				_, err := f.deleteSubnet(t.Context(), call("DeleteSubnet"), &subnetRequest{SubnetID: subnets[0]})
				must(t, err)
			}
		})
	})
}

func TestRouteWorkflows(t *testing.T) {
	prepare := func(t *testing.T, f *fixture, destinations ...string) (subnet string, routes []string) {
		vpc, subnets := f.vpcOf(t, "192.168.0.0/16", "192.168.7.0/24")
		f.portIn(t, "vm-one", vpc, subnets[0], "192.168.7.10")
		must(t, f.SyncVPC(t.Context(), vpc))
		for _, d := range destinations {
			r, err := f.createRoute(t.Context(), call("CreateSubnetRoute"), &createRouteRequest{SubnetID: subnets[0], Destination: d, NextHopType: "Custom", NextHop: "192.168.7.10"})
			must(t, err)
			f.ready(t, "route", r.RouteID)
			routes = append(routes, r.RouteID)
		}
		return subnets[0], routes
	}
	t.Run("create", func(t *testing.T) {
		proveEdit(t, "route.create", func(t *testing.T, f *fixture) func(*testing.T) {
			subnet, _ := prepare(t, f)
			return func(t *testing.T) {
				_, err := f.createRoute(t.Context(), call("CreateSubnetRoute"), &createRouteRequest{SubnetID: subnet, Destination: "10.1.0.0/16", NextHopType: "Custom", NextHop: "192.168.7.10"})
				must(t, err)
			}
		})
	})
	t.Run("update", func(t *testing.T) {
		proveEdit(t, "route.update", func(t *testing.T, f *fixture) func(*testing.T) {
			subnet, routes := prepare(t, f, "10.1.0.0/16")
			return func(t *testing.T) {
				_, err := f.updateRoute(t.Context(), call("UpdateSubnetRoute"), &updateRouteRequest{SubnetID: subnet, RouteID: routes[0], Destination: "10.2.0.0/16"})
				must(t, err)
			}
		})
	})
	t.Run("delete", func(t *testing.T) {
		proveEdit(t, "route.delete", func(t *testing.T, f *fixture) func(*testing.T) {
			subnet, routes := prepare(t, f, "10.1.0.0/16", "10.2.0.0/16")
			return func(t *testing.T) {
				_, err := f.deleteRoute(t.Context(), call("DeleteSubnetRoute"), &deleteRouteRequest{SubnetID: subnet, RouteIDs: routes})
				must(t, err)
			}
		})
	})
}

func TestPeeringWorkflows(t *testing.T) {
	link := func(a, b string) *peeringRequest { return &peeringRequest{VPCID: a, PeerType: "VPC", PeerID: b} }
	t.Run("create", func(t *testing.T) {
		proveEdit(t, "peering.create", func(t *testing.T, f *fixture) func(*testing.T) {
			a, _ := f.vpcOf(t, "192.168.0.0/16", "192.168.7.0/24")
			b, _ := f.vpcOf(t, "172.16.0.0/16", "172.16.7.0/24")
			return func(t *testing.T) {
				_, err := f.associatePeering(t.Context(), call("AssociateVPCPeering"), link(a, b))
				must(t, err)
			}
		})
	})
	t.Run("delete", func(t *testing.T) {
		proveEdit(t, "peering.delete", func(t *testing.T, f *fixture) func(*testing.T) {
			a, _ := f.vpcOf(t, "192.168.0.0/16", "192.168.7.0/24")
			b, _ := f.vpcOf(t, "172.16.0.0/16")
			_, err := f.associatePeering(t.Context(), call("AssociateVPCPeering"), link(a, b))
			must(t, err)
			p, err := peeringOf(t.Context(), f.DB.Reader(), a, b)
			must(t, err)
			f.ready(t, "peering", p.ID)
			return func(t *testing.T) {
				_, err := f.dissociatePeering(t.Context(), call("DissociateVPCPeering"), link(b, a))
				must(t, err)
			}
		})
	})
}

// nic makes an elastic NIC.
func (f *fixture) nic(t *testing.T, q createNICRequest) string {
	t.Helper()
	q.Name = "nic"
	r, err := f.createNIC(t.Context(), call("CreateNIC"), &q)
	must(t, err)
	return r.NICID
}

// nicBecomes waits until a NIC is in a state.
func (f *fixture) nicBecomes(t *testing.T, id, want string) {
	t.Helper()
	until(t, id+" is "+want, func() bool {
		n, err := nicByID(t.Context(), f.DB.Reader(), action.Scope{}, id)
		must(t, err)
		return n.State == want
	})
}

func TestNICWorkflows(t *testing.T) {
	prepare := func(t *testing.T, f *fixture, kind string, attached bool) *attachNICRequest {
		vpc, subnets := f.vpcOf(t, "192.168.0.0/16", "192.168.7.0/24")
		f.port(t, "vm-one", "10.0.0.20")
		q := createNICRequest{NICType: LAN, VPCID: vpc, SubnetID: subnets[0], IP: "192.168.7.9"}
		if kind == WAN {
			q = createNICRequest{NICType: WAN, SegmentID: "Bgp", IP: "198.51.100.7", Bandwidth: 5, ChargeType: "Month", Quantity: 1}
		}
		r := &attachNICRequest{NICID: f.nic(t, q), ResourceType: VM, ResourceID: "vm-one"}
		must(t, vms{f}.Plug(t.Context(), "vm-one"))
		if attached {
			_, err := f.attach(t.Context(), call("AttachNIC"), r)
			must(t, err)
			f.nicBecomes(t, r.NICID, Bound)
		}
		return r
	}
	for _, kind := range []string{LAN, WAN} {
		t.Run("attach "+kind, func(t *testing.T) {
			proveEdit(t, "nic.attach", func(t *testing.T, f *fixture) func(*testing.T) {
				r := prepare(t, f, kind, false)
				return func(t *testing.T) {
					_, err := f.attach(t.Context(), call("AttachNIC"), r)
					must(t, err)
				}
			})
		})
	}
	t.Run("detach", func(t *testing.T) {
		proveEdit(t, "nic.detach", func(t *testing.T, f *fixture) func(*testing.T) {
			r := prepare(t, f, LAN, true)
			return func(t *testing.T) {
				_, err := f.detach(t.Context(), call("DetachNIC"), r)
				must(t, err)
			}
		})
	})
	t.Run("bandwidth", func(t *testing.T) {
		proveEdit(t, "nic.bandwidth", func(t *testing.T, f *fixture) func(*testing.T) {
			r := prepare(t, f, WAN, true)
			return func(t *testing.T) {
				_, err := f.updateNICBandwidth(t.Context(), call("UpdateNICIPBandwidth"), &updateNICBandwidthRequest{NICID: r.NICID, Bandwidth: 9})
				must(t, err)
			}
		})
	})
}

func TestMoveWorkflow(t *testing.T) {
	proveEdit(t, "ip.replace", func(t *testing.T, f *fixture) func(*testing.T) {
		v, _, _ := f.network(t)
		f.port(t, "vm-one", "10.0.0.20")
		must(t, f.SyncVPC(t.Context(), v.ID))
		return func(t *testing.T) {
			_, err := f.replaceIP(t.Context(), call("ReplaceIP"), &replaceIPRequest{ResourceID: "vm-one", IP: "10.0.0.30"})
			must(t, err)
		}
	})
}

func TestVIPWorkflows(t *testing.T) {
	// vip is a VIP that two machines may carry, in a subnet or on the segment.
	vip := func(t *testing.T, f *fixture, kind string) func(t *testing.T) string {
		vpc, subnets := f.vpcOf(t, "192.168.0.0/16", "192.168.7.0/24")
		vms := []string{"vm-one", "vm-two"}
		q := allocateVIPRequest{Name: "vip", VIPType: kind, VPCID: vpc, AssociatedResourceType: byVM, AssociatedResourceIDs: vms}
		for _, vm := range vms {
			f.portIn(t, vm, vpc, subnets[0], "")
			if kind == WAN {
				nic := f.nic(t, createNICRequest{NICType: WAN, SegmentID: "Bgp", Bandwidth: 5, ChargeType: "Month", Quantity: 1})
				_, err := f.attach(t.Context(), call("AttachNIC"), &attachNICRequest{NICID: nic, ResourceType: VM, ResourceID: vm})
				must(t, err)
				f.nicBecomes(t, nic, Bound)
			}
		}
		if q.SubnetID, q.IP = subnets[0], "192.168.7.100"; kind == WAN {
			q.SubnetID, q.SegmentID, q.IP, q.Bandwidth, q.ChargeType, q.Quantity = "", "Bgp", "198.51.100.9", 5, "Month", 1
		}
		must(t, f.SyncVPC(t.Context(), vpc))
		return func(t *testing.T) string {
			r, err := f.allocateVIP(t.Context(), call("AllocateVIP"), &q)
			must(t, err)
			return r.VIPID
		}
	}
	for name, begin := range map[string]func(t *testing.T, f *fixture, id string) error{
		"vip.update": func(t *testing.T, f *fixture, id string) error {
			_, err := f.updateVIP(t.Context(), call("UpdateVIPBindResource"), &updateVIPRequest{VIPID: id, AssociatedResourceType: byVM, AssociatedResourceIDs: []string{"vm-two"}})
			return err
		},
		"vip.bandwidth": func(t *testing.T, f *fixture, id string) error {
			_, err := f.updateVIPBandwidth(t.Context(), call("UpdateVIPBandwidth"), &updateVIPBandwidthRequest{VIPID: id, Bandwidth: 9})
			return err
		},
		"vip.release": func(t *testing.T, f *fixture, id string) error {
			_, err := f.releaseVIP(t.Context(), call("ReleaseVIP"), &vipRequest{VIPID: id})
			return err
		},
		"vip.create": nil,
	} {
		for _, kind := range []string{LAN, WAN} {
			if name == "vip.bandwidth" && kind == LAN {
				continue
			}
			t.Run(name+" "+kind, func(t *testing.T) {
				proveEdit(t, name, func(t *testing.T, f *fixture) func(*testing.T) {
					allocate := vip(t, f, kind)
					if begin == nil {
						return func(t *testing.T) { allocate(t) }
					}
					id := allocate(t)
					f.ready(t, "vip", id)
					return func(t *testing.T) { must(t, begin(t, f, id)) }
				})
			})
		}
	}
}
