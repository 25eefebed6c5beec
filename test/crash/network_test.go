package crash

import (
	"fmt"
	"strings"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
)

// mac is a random one, of few: some are taken.
func (u *user) mac() string { return fmt.Sprintf("02:00:00:00:00:%02x", u.random.IntN(256)) }

// route is a random one of the machines' subnet.
func (u *user) route() p {
	subnet := u.spec["SubnetID"]
	routes := u.any(u.list("DescribeSubnetRoute", p{"SubnetID": subnet}), func(i controllertest.Info) bool { return i.String("NextHopType") == "VM" })
	return p{"SubnetID": subnet, "RouteID": routes.String("RouteID")}
}

var vpcDeeds = product{
	"CreateVPC": {often: 2, ask: func(u *user) p {
		return with(p{"Name": named, "Network": fmt.Sprintf("192.168.%d.0/24", u.random.IntN(256))}, u.maybe(p{"EnableGateway": true}))
	}},
	"DeleteVPC": {after: after("CreateVPC"), ask: func(u *user) p { return p{"VPCID": u.own(networks).String("VPCID")} }},
	"UpdateVPCGateway": {after: after("CreateVPC"), ask: func(u *user) p {
		return p{"VPCID": u.own(networks).String("VPCID"), "EnableGateway": one(u, true, false)}
	}},
	"CreateSubnet": {after: after("CreateVPC"), often: 3, ask: func(u *user) p {
		v := u.own(networks)
		return p{"Name": named, "VPCID": v.String("VPCID"), "Network": strings.Replace(v.String("Network"), ".0/24", fmt.Sprintf(".%d/26", one(u, 0, 64, 128, 192)), 1)}
	}},
	"DeleteSubnet": {after: after("CreateSubnet"), ask: func(u *user) p { return p{"SubnetID": u.own(subnets).String("SubnetID")} }},
	"AssociateVPCPeering": {after: after("CreateVPC", "UpdateVPCGateway"), ask: func(u *user) p {
		linkable := func() string {
			return u.any(u.list(networks.list, nil), func(i controllertest.Info) bool { return i.String("EnableGateway") == "true" }).String("VPCID")
		}
		return p{"VPCID": linkable(), "PeerType": "VPC", "PeerID": linkable()}
	}},
	"DissociateVPCPeering": {after: after("AssociateVPCPeering"), ask: func(u *user) p {
		vpc := u.own(networks).String("VPCID")
		return p{"VPCID": vpc, "PeerType": "VPC", "PeerID": u.any(u.list("DescribeVPCPeering", p{"VPCID": vpc}), nil).String("PeerID")}
	}},
	"ReplaceIP": {after: after("StopVMInstance"), ask: func(u *user) p {
		return p{"ResourceID": u.a(vms, off), "IP": fmt.Sprintf("10.0.0.%d", 100+u.random.IntN(100))}
	}},
	"CreateSubnetRoute": {often: 2, ask: func(u *user) p {
		return p{"SubnetID": u.spec["SubnetID"], "Destination": fmt.Sprintf("203.0.%d.0/24", u.random.IntN(256)), "NextHopType": "VM", "NextHop": u.a(vms, on, off)}
	}},
	"UpdateSubnetRoute": {after: after("CreateSubnetRoute"), ask: func(u *user) p {
		return with(u.route(), p{"Destination": fmt.Sprintf("203.1.%d.0/24", u.random.IntN(256))})
	}},
	"DeleteSubnetRoute": {after: after("CreateSubnetRoute"), ask: func(u *user) p {
		q := u.route()
		return p{"SubnetID": q["SubnetID"], "RouteIDs": []string{q["RouteID"].(string)}}
	}},
}

var nicDeeds = product{
	"CreateNIC": {often: 3, ask: func(u *user) p {
		if u.random.IntN(3) == 0 {
			return bought(p{"NICType": "WAN", "SegmentID": u.a(segments), "Bandwidth": 5})
		}
		subnet := u.row(subnets)
		return p{"Name": named, "VPCID": subnet.String("VPCID"), "SubnetID": subnet.String("SubnetID")}
	}},
	"AttachNIC": {after: after("CreateNIC", "DetachNIC"), often: 4, ask: func(u *user) p { return p{"NICID": u.a(nics, "Free"), "ResourceID": u.a(vms, on, off)} }},
	"DetachNIC": {after: after("AttachNIC"), often: 3, ask: func(u *user) p {
		n := u.row(nics, "Bound")
		return p{"NICID": n.String("NICID"), "ResourceID": n.String("BindResourceID")}
	}},
	"DeleteNIC":            {after: after("CreateNIC", "DetachNIC"), often: 2, ask: func(u *user) p { return p{"NICID": u.a(nics, "Free")} }},
	"UpdateNICIPBandwidth": {after: after("CreateNIC"), ask: func(u *user) p { return p{"NICID": u.outer(nics, "NICType"), "Bandwidth": one(u, 5, 10)} }},
	"UpdateNICMAC":         {after: after("CreateNIC", "DetachNIC"), ask: func(u *user) p { return p{"NICID": u.a(nics, "Free"), "MAC": u.mac()} }},
}

// outer is mostly one on an external segment, where field says so.
func (u *user) outer(k thing, field string) string {
	return u.any(u.list(k.list, nil), func(i controllertest.Info) bool { return i.String(field) == "WAN" }).String(k.id)
}

var vipDeeds = product{
	"AllocateVIP": {often: 2, ask: func(u *user) p {
		q := p{"Name": named, "VIPType": "LAN", "VPCID": u.spec["VPCID"], "SubnetID": u.spec["SubnetID"]}
		if u.random.IntN(3) == 0 {
			return bought(with(q, p{"VIPType": "WAN", "SegmentID": u.a(segments), "Bandwidth": 5}))
		}
		return with(q, u.maybe(p{"AssociatedResourceIDs": []string{u.a(vms, on, off)}}))
	}},
	"UpdateVIPBindResource": {after: after("AllocateVIP"), ask: func(u *user) p {
		return with(p{"VIPID": u.a(vips)}, u.maybe(p{"AssociatedResourceIDs": []string{u.a(vms, on, off)}}))
	}},
	"UpdateVIPBandwidth": {after: after("AllocateVIP"), ask: func(u *user) p { return p{"VIPID": u.outer(vips, "VIPType"), "Bandwidth": one(u, 5, 10)} }},
	"ReleaseVIP":         {after: after("AllocateVIP"), ask: func(u *user) p { return p{"VIPID": u.a(vips)} }},
}

func (u *user) cidr() string { return fmt.Sprintf("198.19.%d.0/24", u.random.IntN(256)) }
func (u *user) port() string { return fmt.Sprint("tcp:", 1+u.random.IntN(100)) }

// rule is a random one, as text, now and then of a group of addresses.
func (u *user) rule() string {
	if all := u.list("DescribeIPGroup", nil); len(all) > 0 && u.random.IntN(3) == 0 {
		return fmt.Sprintf("TCP|80|%s|ACCEPT|HIGH|1", all[0].String("IPGroupID"))
	}
	return fmt.Sprintf("TCP|%d|0.0.0.0/0|ACCEPT|HIGH|%d", 1+u.random.IntN(100), u.random.IntN(2))
}

// ruled is a random rule of an own group.
func (u *user) ruled() (group, rule string) {
	group = u.own(groups).String("SGID")
	return group, u.any(u.list("DescribeSecurityGroupRule", p{"SGID": group}), nil).String("RuleID")
}

var groupDeeds = product{
	"CreateSecurityGroup":     {often: 2, ask: func(u *user) p { return p{"Name": named, "Rule": []string{u.rule()}} }},
	"DeleteSecurityGroup":     {after: after("CreateSecurityGroup"), ask: func(u *user) p { return p{"SGID": u.own(groups).String("SGID")} }},
	"CreateSecurityGroupRule": {after: after("CreateSecurityGroup"), ask: func(u *user) p { return p{"SGID": u.own(groups).String("SGID"), "Rules": []string{u.rule()}} }},
	"UpdateSecurityGroupRule": {after: after("CreateSecurityGroupRule"), ask: func(u *user) p {
		group, rule := u.ruled()
		return p{"SGID": group, "Rules": []string{u.rule() + "|" + rule}}
	}},
	"DeleteSecurityGroupRule": {after: after("CreateSecurityGroupRule"), ask: func(u *user) p {
		group, rule := u.ruled()
		return p{"SGID": group, "SGRuleID": rule}
	}},
	"BindSecurityGroup": {often: 2, ask: func(u *user) p {
		return p{"ResourceID": u.a(vms, on, off), "SGID": u.a(groups), "NICType": one(u, "LAN", "WAN")}
	}},
	"CreateIPGroup":       {ask: func(u *user) p { return p{"Name": named, "Rules": u.cidr()} }},
	"UpdateIPGroup":       {after: after("CreateIPGroup"), ask: func(u *user) p { return p{"IPGroupID": u.a(ipGroups), "Rules": u.cidr()} }},
	"DeleteIPGroup":       {after: after("CreateIPGroup"), ask: func(u *user) p { return p{"IPGroupID": u.a(ipGroups)} }},
	"CreatePortGroup":     {ask: func(u *user) p { return p{"Name": named, "Rules": u.port()} }},
	"UpdatePortGroup":     {after: after("CreatePortGroup"), ask: func(u *user) p { return p{"PortGroupID": u.a(portGroups), "Rules": u.port()} }},
	"DeletePortGroup":     {after: after("CreatePortGroup"), ask: func(u *user) p { return p{"PortGroupID": u.a(portGroups)} }},
	"UnBindSecurityGroup": {after: after("BindSecurityGroup"), ask: func(u *user) p { return p{"ResourceID": u.a(vms, on, off), "NICType": one(u, "LAN", "WAN")} }},
}

// onVM and offVM bind and unbind an address.
func onVM(u *user, k thing, states ...string) p {
	return p{k.id: u.a(k, states...), "ResourceID": u.a(vms, on, off), "ResourceType": "VM"}
}

func offVM(u *user, k thing) p {
	e := u.row(k, "Bound")
	return p{k.id: e.String(k.id), "ResourceID": e.String("BindResourceID"), "ResourceType": "VM"}
}

var eipDeeds = product{
	"AllocateEIP": {often: 3, ask: func(u *user) p { return bought(p{"OperatorName": "Bgp", "Bandwidth": 10}) }},
	"BindEIP":     {after: after("AllocateEIP", "UnBindEIP"), often: 6, ask: func(u *user) p { return onVM(u, eips, "Free") }},
	"UnBindEIP":   {after: after("BindEIP"), often: 4, ask: func(u *user) p { return offVM(u, eips) }},
	"ReleaseEIP":  {after: after("AllocateEIP", "UnBindEIP"), often: 3, ask: func(u *user) p { return p{"EIPID": u.a(eips, "Free")} }},
	"ModifyEIPBandwidth": {after: after("AllocateEIP"), often: 2, ask: func(u *user) p {
		return p{"EIPID": u.a(eips), "Bandwidth": one(u, 5, 10, 20)}
	}},
	"CreatePhysicalIP": {ask: func(*user) p { return p{"Name": named, "OperatorName": "Bgp"} }},
	"BindPhysicalIP":   {after: after("CreatePhysicalIP", "UnbindPhysicalIP"), ask: func(u *user) p { return onVM(u, physical) }},
	"UnbindPhysicalIP": {after: after("BindPhysicalIP"), ask: func(u *user) p { return offVM(u, physical) }},
	"DeletePhysicalIP": {after: after("CreatePhysicalIP", "UnbindPhysicalIP"), ask: func(u *user) p { return p{"PhysicalIPID": u.a(physical)} }},

	"CreateSegment": {admin: true, ask: func(u *user) p {
		n := u.random.IntN(16)
		return p{"Name": fmt.Sprint(named, n), "Segment": fmt.Sprintf("198.51.100.%d/28", 16*n), "Device": "provider", "Vlan": 100 + n}
	}},
	"UpdateSegment": {after: after("CreateSegment"), admin: true, ask: func(u *user) p {
		return p{"SegmentID": u.own(segments).String("SegmentID"), "TotalBandwidth": one(u, 0, 100)}
	}},
	"DeleteSegment": {after: after("CreateSegment"), admin: true, ask: func(u *user) p { return p{"SegmentID": u.own(segments).String("SegmentID")} }},
	"CreateSegmentRoute": {after: after("CreateSegment"), admin: true, ask: func(u *user) p {
		g := u.own(segments)
		return p{"SegmentID": g.String("SegmentID"), "Destination": fmt.Sprintf("198.19.%d.0/24", u.random.IntN(256)), "NextHop": g.String("Gateway")}
	}},
	"UpdateSegmentRoute": {after: after("CreateSegmentRoute"), admin: true, ask: func(u *user) p { return with(u.segmentRoute(), p{"Destination": "198.18.0.0/24"}) }},
	"DeleteSegmentRoute": {after: after("CreateSegmentRoute"), admin: true, ask: func(u *user) p {
		q := u.segmentRoute()
		return p{"SegmentID": q["SegmentID"], "RouteIDs": []string{q["RouteID"].(string)}}
	}},
}

// segmentRoute is the route made last, if any.
func (u *user) segmentRoute() p {
	g := u.own(segments).String("SegmentID")
	return p{"SegmentID": g, "RouteID": u.any(u.list("DescribeSegmentRoute", p{"SegmentID": g}), nil).String("RouteID")}
}
