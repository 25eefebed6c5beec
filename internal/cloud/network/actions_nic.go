package network

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

func (s *Service) nicActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "CreateNIC", Module: "nic", Mutates: true, Summary: "Create an elastic network interface."}, s.createNIC),
		action.Define(action.Spec{Name: "DescribeNIC", Module: "nic", Summary: "List elastic network interfaces."}, s.describeNIC),
		action.Define(action.Spec{Name: "AttachNIC", Module: "nic", Mutates: true, Summary: "Attach an elastic network interface to a virtual machine."}, s.attach),
		action.Define(action.Spec{Name: "DetachNIC", Module: "nic", Mutates: true, Summary: "Detach an elastic network interface."}, s.detach),
		action.Define(action.Spec{Name: "DeleteNIC", Module: "nic", Mutates: true, Summary: "Delete an unattached elastic network interface."}, s.deleteNIC),
		action.Define(action.Spec{Name: "UpdateNICIPBandwidth", Module: "nic", Mutates: true, Extension: true, Summary: "Change the bandwidth of an outer NIC."}, s.updateNICBandwidth),
		action.Define(action.Spec{Name: "UpdateNICMAC", Module: "nic", Mutates: true, Extension: true, Summary: "Change the address of a free NIC."}, s.updateNICMAC),
		action.Define(action.Spec{Name: "CheckMACInUse", Module: "nic", Extension: true, Summary: "Tell whether a MAC is taken."}, s.checkMAC),
	}
}

type createNICRequest struct {
	Name             string   `validate:"required" doc:"1-63 printable characters"`
	VPCID            string   `doc:"VPC id, of LAN"`
	SubnetID         string   `doc:"subnet id, of LAN"`
	ProjectID        string   `doc:"project group id"`
	Remark           string   `validate:"max=100" doc:"free text"`
	ChargeType       string   `validate:"omitempty,oneof=Dynamic Month Year" doc:"of WAN; Dynamic is hourly"`
	Quantity         int      `default:"1" doc:"periods, of WAN"`
	SGID             string   `doc:"security group id; without one everything passes"`
	IP               string   `doc:"wanted address"`
	NICType          string   `default:"LAN" doc:"LAN in a subnet, WAN on an external segment"`
	SegmentID        string   `doc:"external segment, of WAN"`
	Bandwidth        int      `doc:"Mbps, of WAN"`
	IPVersion        string   `validate:"omitempty,oneof=IPv4 IPv6" doc:"IP version"`
	MAC              string   `doc:"wanted hardware address, unicast"`
	AutoRenew        bool     `default:"true" doc:"renew by itself when the period ends"`
	TagKeyValuePairs []string `doc:"base64(key):base64(value)"`
	action.Tenant
}

type createNICResponse struct{ NICID string }

func (s *Service) createNIC(ctx context.Context, c *action.Call, q *createNICRequest) (*createNICResponse, error) {
	if err := checkSide("NICType", q.NICType); err != nil {
		return nil, err
	}
	name, err := resource.Name(q.Name)
	if err != nil {
		return nil, err
	}
	mac := ""
	if q.MAC != "" {
		if mac, err = ParseMAC("MAC", q.MAC); err != nil {
			return nil, err
		}
	}
	now := s.Clock.Micros()
	n := &NIC{ID: database.NewID("nic"), Region: c.Region, Company: c.Owner(), Name: name, Remark: q.Remark, Kind: q.NICType, State: Free, CreatedAt: now, UpdatedAt: now}
	var outer *outerRequest
	switch {
	case q.NICType == WAN:
		if outer, err = s.checkOuter(ctx, c, "NICType", outerRequest{segment: q.SegmentID, ip: q.IP, version: q.IPVersion, mac: mac, mbps: q.Bandwidth, chargeType: q.ChargeType, quantity: q.Quantity}); err != nil {
			return nil, err
		}
		n.SegmentID, n.Bandwidth, n.ChargeType, n.Quantity, n.AutoRenew = outer.row.ID, q.Bandwidth, q.ChargeType, q.Quantity, q.AutoRenew
	case q.VPCID == "" || q.SubnetID == "":
		return nil, retcode.MissingParameter.Errorf("VPCID and SubnetID are required when NICType is LAN")
	case q.IPVersion == IPv6:
		return nil, retcode.InvalidParameter.Errorf("IPVersion: VPCs have IPv4 addresses only")
	default:
		n.VPCID, n.SubnetID = q.VPCID, q.SubnetID
	}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if n.Project, err = identity.Project(ctx, tx, c, q.ProjectID); err != nil {
			return err
		}
		if err := s.Catalog.Reserve(ctx, tx, n.Company, n.Region, catalog.Amounts{catalog.NIC: 1}); err != nil {
			return err
		}
		if outer == nil {
			if err := s.insertLAN(ctx, tx, c.OwnScope(), n, q.IP, q.SGID, mac); err != nil {
				return err
			}
		} else {
			if err := checkGroups(ctx, tx, c.OwnScope(), q.SGID); err != nil {
				return err
			}
			port := &Port{ID: n.ID, Region: n.Region, Company: n.Company, OwnerKind: ofNIC, OwnerID: n.ID, OuterSG: q.SGID,
				InMbps: n.Bandwidth, OutMbps: n.Bandwidth, Kept: true, CreatedAt: now, UpdatedAt: now}
			if err := s.reserveOuter(ctx, tx, outer, port); err != nil {
				return err
			}
			if _, err := tx.NewInsert().Model(n).Exec(ctx); err != nil {
				return err
			}
		}
		if err := tag.Attach(ctx, tx, now, resource.Item{ID: n.ID, Company: n.Company, Region: n.Region, Kind: "NIC"}, q.TagKeyValuePairs); err != nil {
			return err
		}
		return s.buyNIC(ctx, tx, n)
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(n.ID)
	return &createNICResponse{NICID: n.ID}, nil
}

type describeNICRequest struct {
	ProjectIDs     []string `doc:"project group ids"`
	Keyword        string   `doc:"part of name, id or address"`
	NICIDs         []string `doc:"NIC ids"`
	BindResourceID string   `doc:"id of the machine"`
	Status         string   `doc:"state"`
	NICType        string   `validate:"omitempty,oneof=LAN WAN" doc:"in a subnet, or on a segment"`
	VPCID          string   `doc:"VPC id"`
	SubnetID       string   `doc:"subnet id"`
	SegmentID      string   `doc:"external segment"`
	SGID           string   `doc:"security group id"`
	action.Tenant
	action.Page
}

type describeNICResponse struct {
	TotalCount int
	Infos      []nicInfo
}

type nicInfo struct {
	Region           string
	VPCID            string
	VPCName          string
	SubnetID         string
	SubnetName       string
	MAC              string
	IPID             string
	IP               string
	SGID             string
	SGName           string
	BindResourceID   string
	BindResourceType string
	BindResourceName string
	NICID            string
	NICType          string
	CompanyID        int64
	Email            string
	Name             string
	Remark           string
	ChargeType       string
	ProjectID        string
	ProjectName      string
	NICStatus        string
	CreateTime       int64
	ExpireTime       int64 `doc:"0: never"`
	SegmentID        string
	SegmentName      string
	SegmentNetwork   string
	Bandwidth        int `doc:"Mbps, of WAN"`
	RegionAlias      string
	Reason           string
	Zone             string `doc:"older clients only"`
	AutoRenew        bool
	IsDefaultGW      int `doc:"0: a machine's default route is its own interface's"`
	Tags             []tag.Info
}

func (s *Service) describeNIC(ctx context.Context, c *action.Call, q *describeNICRequest) (*describeNICResponse, error) {
	out := &describeNICResponse{Infos: []nicInfo{}}
	db := s.DB.Reader()
	var rows []NIC
	sel := identity.Own(db.NewSelect().Model(&rows).Where("ended_at = 0"), c.Scope())
	for _, f := range [][2]string{{"bind_id", q.BindResourceID}, {"state", q.Status}, {"kind", q.NICType}, {"vpc_id", q.VPCID}, {"subnet_id", q.SubnetID}, {"segment_id", q.SegmentID}} {
		if f[1] != "" {
			sel = sel.Where("? = ?", bun.Ident(f[0]), f[1])
		}
	}
	if q.SGID != "" {
		sel = sel.Where("id IN (SELECT id FROM port WHERE ? IN (inner_sg, outer_sg))", q.SGID)
	}
	sel = matchingPorts(anyOf(anyOf(sel, "id", q.NICIDs), "project", q.ProjectIDs), q.Keyword)
	var err error
	if out.TotalCount, err = page(ctx, sel, q.Page, "created_at DESC, id DESC"); err != nil || len(rows) == 0 {
		return out, err
	}
	ids := column(rows, func(n *NIC) string { return n.ID })
	var ports []Port
	if err := db.NewSelect().Model(&ports).Where("id IN (?)", bun.In(ids)).Scan(ctx); err != nil {
		return nil, err
	}
	byID := make(map[string]Port)
	for _, p := range ports {
		byID[p.ID] = p
	}
	look, err := s.lookup(ctx, rows, ports)
	if err != nil {
		return nil, err
	}
	for _, n := range rows {
		p := byID[n.ID]
		info := nicInfo{Region: n.Region, RegionAlias: n.Region, VPCID: n.VPCID, VPCName: look.vpcs[n.VPCID], SubnetID: n.SubnetID, SubnetName: look.subnets[n.SubnetID], MAC: p.MAC, IPID: n.ID,
			IP: p.IP, SGID: p.group(), SGName: look.groups[p.group()], BindResourceID: n.BindID, BindResourceType: n.BindKind, BindResourceName: look.owners[n.BindID].Name, NICID: n.ID,
			NICType: n.Kind, CompanyID: n.Company, Email: look.labels[n.ID].email, Name: n.Name, Remark: n.Remark, ChargeType: n.ChargeType, ProjectID: n.Project,
			ProjectName: look.labels[n.ID].project, NICStatus: n.State, CreateTime: seconds(n.CreatedAt), ExpireTime: seconds(n.ExpireAt), Bandwidth: n.Bandwidth,
			Reason: why(n.ReasonCode, n.Reason, c.Language), AutoRenew: n.AutoRenew, Tags: look.labels[n.ID].tags}
		if g := look.segments[n.SegmentID]; g != nil {
			info.SegmentID, info.SegmentName, info.SegmentNetwork = g.ID, g.Name, g.CIDR
		}
		out.Infos = append(out.Infos, info)
	}
	return out, nil
}

// lookups are the names that a page of NICs shows.
type lookups struct {
	vpcs, subnets, groups map[string]string
	owners                map[string]TargetPort
	segments              map[string]*Segment
	labels                map[string]labels
}

func (s *Service) lookup(ctx context.Context, rows []NIC, ports []Port) (l lookups, err error) {
	db := s.DB.Reader()
	if l.vpcs, err = names(ctx, db, "vpc", column(rows, func(n *NIC) string { return n.VPCID })); err != nil {
		return l, err
	}
	if l.subnets, err = names(ctx, db, "subnet", column(rows, func(n *NIC) string { return n.SubnetID })); err != nil {
		return l, err
	}
	if l.groups, err = names(ctx, db, "security_group", column(ports, func(p *Port) string { return p.group() })); err != nil {
		return l, err
	}
	if l.owners, err = s.owners(ctx, column(ports, (*Port).owner)); err != nil {
		return l, err
	}
	if l.segments, err = segmentsByID(ctx, db, column(rows, func(n *NIC) string { return n.SegmentID })); err != nil {
		return l, err
	}
	l.labels, err = labelled(ctx, s, rows)
	return l, err
}

type attachNICRequest struct {
	NICID        string `validate:"required" doc:"NIC id"`
	ResourceID   string `validate:"required" doc:"machine's id"`
	ResourceType string `default:"VM" doc:"VM"`
	action.Tenant
}

// check refuses what takes no interfaces, and an id of another kind (207).
func (q *attachNICRequest) check() error {
	if q.ResourceType != "VM" {
		return retcode.InvalidResourceType.Errorf("ResourceType %s takes no NICs", q.ResourceType)
	}
	if !strings.HasPrefix(q.ResourceID, "vm-") {
		return retcode.InvalidResourceType.Errorf("%s is no VM", q.ResourceID)
	}
	return nil
}

// nicAndMachine reads both ends of a request: what does not exist is said first, then whose state is wrong.
func (s *Service) nicAndMachine(ctx context.Context, tx bun.Tx, c *action.Call, q *attachNICRequest, same, other string) (*NIC, *Machine, error) {
	if err := q.check(); err != nil {
		return nil, nil, err
	}
	kind, err := s.machines()
	if err != nil {
		return nil, nil, err
	}
	n, err := nicByID(ctx, tx, c.Scope(), q.NICID)
	if err != nil {
		return nil, nil, err
	}
	verdict := n.check(n.toward(q.ResourceID, same, other))
	if errors.Is(verdict, lifecycle.ErrRepeat) {
		return nil, nil, verdict
	}
	m, err := kind.Machine(ctx, tx, action.Scope{Region: n.Region, Company: n.Company, Projects: c.Projects}, q.ResourceID)
	if code := retcode.Of(err); code == retcode.VMNotFound || code == retcode.ServiceError {
		return nil, nil, err
	}
	if verdict != nil {
		return nil, nil, verdict
	}
	return n, m, err
}

func (s *Service) attach(ctx context.Context, c *action.Call, q *attachNICRequest) (*action.Empty, error) {
	c.AddResource(q.NICID, q.ResourceID)
	return nil, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		n, m, err := s.nicAndMachine(ctx, tx, c, q, nicAttach, nicAttachOther)
		if err != nil {
			return "", err
		}
		if err := s.Ledger.Check(ctx, tx, n.ID); err != nil {
			return "", err
		}
		port, err := s.beginJoin(ctx, tx, n, m, q.ResourceID)
		if err != nil {
			return "", err
		}
		return s.acceptNIC(ctx, tx, c.Action, s.attachNIC, n, port, q.ResourceID)
	})
}

func (s *Service) acceptNIC(ctx context.Context, tx bun.Tx, name string, flow *workflow.Workflow[nicChange], n *NIC, port *Port, machine string) (string, error) {
	op, err := flow.Accept(ctx, tx, workflow.Request{Action: name, Company: n.Company, Region: n.Region, Resources: []string{n.ID, machine},
		Locks: []workflow.Lock{exclusive(n.ID), shared(machine)}}, nicChange{NIC: n.ID, Machine: machine, Key: port.key()})
	return op, held(err, retcode.InvalidResourceState)
}

func (s *Service) detach(ctx context.Context, c *action.Call, q *attachNICRequest) (*action.Empty, error) {
	c.AddResource(q.NICID, q.ResourceID)
	return nil, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		n, _, err := s.nicAndMachine(ctx, tx, c, q, nicDetach, nicDetachOther)
		if err != nil {
			return "", err
		}
		if err := s.Ledger.Check(ctx, tx, n.ID); err != nil { // the cloud itself detaches it
			return "", err
		}
		port, err := lockPort(ctx, tx, n.ID)
		if err != nil {
			return "", err
		}
		if ok, err := s.beginDetach(ctx, tx, n.ID, nil, Bound); err != nil {
			return "", err
		} else if !ok {
			return "", retcode.InvalidResourceState.Errorf("%s is being changed", n.ID)
		}
		return s.acceptNIC(ctx, tx, c.Action, s.detachNIC, n, port, q.ResourceID)
	})
}

type nicRequest struct {
	NICID string `validate:"required" doc:"NIC id"`
	action.Tenant
}

// deleteNIC destroys a NIC that is attached to nothing: it is in no network, so nothing is left to be told.
func (s *Service) deleteNIC(ctx context.Context, c *action.Call, q *nicRequest) (*action.Empty, error) {
	c.AddResource(q.NICID)
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		n, err := nicByID(ctx, tx, c.Scope(), q.NICID)
		if err != nil {
			return err
		}
		if err := n.check(nicDelete); err != nil {
			return err
		}
		return s.endNIC(ctx, tx, n.ID)
	})
}

type updateNICBandwidthRequest struct {
	NICID             string `validate:"required" doc:"NIC id"`
	Bandwidth         int    `validate:"required" doc:"Mbps, as the segment offers"`
	ApplicationName   string `validate:"max=100" doc:"title of the approval request"`
	ApplicationReason string `validate:"max=1000" doc:"reason of the approval request"`
	action.Tenant
}

type updateNICBandwidthResponse struct {
	ApplicationID string `doc:"set when approval is on"`
}

func (s *Service) updateNICBandwidth(ctx context.Context, c *action.Call, q *updateNICBandwidthRequest) (*updateNICBandwidthResponse, error) {
	c.AddResource(q.NICID)
	n, err := nicByID(ctx, s.DB.Reader(), c.Scope(), q.NICID)
	if err != nil {
		return nil, err
	}
	if n.Kind != WAN {
		return nil, retcode.InvalidParameter.Errorf("%s is an inner NIC, which has no bandwidth of its own", n.ID)
	}
	if err := s.Catalog.CheckEIPSpec(ctx, c.Region, n.SegmentID, q.Bandwidth); err != nil {
		return nil, err
	}
	return nil, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		if n, err = nicByID(ctx, tx, c.Scope(), q.NICID); err != nil {
			return "", err
		}
		if err := n.check(nicBandwidth); err != nil {
			return "", err
		}
		if n.Bandwidth == q.Bandwidth {
			return "", s.Ledger.Check(ctx, tx, n.ID)
		}
		if err := s.beginLimit(ctx, tx, "nic", n.ID, n.SegmentID, n.State, q.Bandwidth); err != nil {
			return "", err
		}
		if _, err := tx.NewRaw("UPDATE port SET in_mbps = ?0, out_mbps = ?0 WHERE id = ?1", q.Bandwidth, n.ID).Exec(ctx); err != nil {
			return "", err
		}
		return s.begin(ctx, tx, c, s.limitNIC, n.Company, retcode.InvalidResourceState,
			edit{ID: n.ID, VPCs: []string{n.ID}, Was: map[string]string{"bandwidth": strconv.Itoa(n.Bandwidth), "state": n.State}}, exclusive(n.ID))
	})
}

type macRequest struct {
	MAC string `validate:"required" doc:"hardware address"`
	action.Tenant
}

type updateNICMACRequest struct {
	NICID string `validate:"required" doc:"NIC id"`
	MAC   string `validate:"required" doc:"hardware address, unicast"`
	action.Tenant
}

func (s *Service) updateNICMAC(ctx context.Context, c *action.Call, q *updateNICMACRequest) (*action.Empty, error) {
	c.AddResource(q.NICID)
	mac, err := ParseMAC("MAC", q.MAC)
	if err != nil {
		return nil, err
	}
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		n, err := nicByID(ctx, tx, c.Scope(), q.NICID)
		if err != nil {
			return err
		}
		if err := n.check(nicMAC); err != nil {
			return err
		}
		if err := s.Ledger.Check(ctx, tx, n.ID); err != nil {
			return err
		}
		return s.SetMAC(ctx, tx, n.ID, mac)
	})
}

type checkMACResponse struct{ InUse bool }

func (s *Service) checkMAC(ctx context.Context, _ *action.Call, q *macRequest) (*checkMACResponse, error) {
	mac, err := ParseMAC("MAC", q.MAC)
	if err != nil {
		return nil, err
	}
	used, err := exists(ctx, s.DB.Reader(), "SELECT 1 FROM port WHERE mac = ?", mac)
	return &checkMACResponse{InUse: used}, err
}
