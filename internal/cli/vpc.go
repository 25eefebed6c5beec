package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

var nics = kind{
	name: "NIC", describe: "DescribeNIC", ids: "NICIDs", id: "NICID", state: "NICStatus", prefix: "nic-",
	columns: []column{plain("ID", "NICID"), plain("Name", "Name"), plain("Type", "NICType"), plain("Address", "IP"), plain("MAC", "MAC"), plain("Status", "NICStatus"),
		plain("Machine", "BindResourceID"), when("Created", "CreateTime"), plain("Reason", "Reason")},
}

var vips = kind{
	name: "VIP", describe: "DescribeVIP", ids: "VIPIDs", id: "VIPID", state: "Status", prefix: "vip-",
	columns: []column{plain("ID", "VIPID"), plain("Name", "Name"), plain("Type", "VIPType"), plain("Address", "IP"), plain("Subnet", "SubnetID"), plain("Segment", "SegmentName"), plain("Status", "Status"),
		{"Carried by", func(o object) string {
			text := ""
			for i, r := range o.list("AssociatedResourceInfos") {
				if i > 0 {
					text += " "
				}
				text += r.text("ResourceID")
			}
			return text
		}}, when("Created", "CreateTime")},
}

var routeColumns = []column{plain("ID", "RouteID"), plain("Destination", "Destination"), plain("Type", "NextHopType"), plain("Next hop", "NextHop"), plain("Status", "Status"), plain("Remark", "Remark")}

var peeringColumns = []column{plain("VPC", "VPCID"), plain("Name", "VPCName"), plain("Network", "VPCNetwork"), plain("Peer", "PeerID"), plain("Peer's name", "PeerName"), plain("State", "State"), when("Created", "CreateTime")}

// making are the states of what is on its way to be.
var making = []string{"Allocating", "Creating", "Updating", "Bounding", "Unbounding", "BandwidthChanging"}

// made shows what a create made, once it is settled.
func made(ctx context.Context, s *session, k *kind, id string, wanted ...string) error {
	o, err := k.settle(ctx, s, id, making, wanted...)
	if err != nil {
		return err
	}
	return s.detail(o, k.columns)
}

// gone waits until a list does not show an id any more.
func gone(ctx context.Context, s *session, k *kind, id string) error {
	return s.wait(ctx, id, func(ctx context.Context) (string, bool, error) {
		o, err := k.get(ctx, s, id)
		if err != nil || o == nil {
			return "gone", true, err
		}
		state := o.text(k.state)
		return state, state == "Available", failedUnless(state != "Available", id, state, o.text("Reason"))
	})
}

func failedUnless(ok bool, id, state, reason string) error {
	if ok {
		return nil
	}
	return failed(id, state, reason)
}

// deletes makes a command that calls an action on each of some things and waits until they are gone.
func deletes(use, short, action string, k *kind) *cobra.Command {
	return k.on(command(use, short, cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
		return each(args, func(ref string) error {
			o, err := k.find(ctx, s, ref)
			if err != nil {
				return err
			}
			id := o.text(k.id)
			if _, err := s.Call(ctx, action, Params{k.id: id}, nil); err != nil {
				return err
			}
			return gone(ctx, s, k, id)
		})
	}))
}

// bandwidths makes a command that changes the bandwidth of something outer, and waits until it is in the state that it
// was in.
func bandwidths(use, action string, k *kind) *cobra.Command {
	return k.on(command(use, "Change the bandwidth, also under transfers", cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
		o, err := k.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		id := o.text(k.id)
		if _, err := s.Call(ctx, action, Params{k.id: id, "Bandwidth": args[1]}, nil); err != nil {
			return err
		}
		return made(ctx, s, k, id, o.text(k.state))
	}))
}

func vpcCommand() *cobra.Command {
	var gateway bool
	create := command("create NAME NETWORK", "Make one; NETWORK is a private CIDR, e.g. 192.168.0.0/16", cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
		var r struct{ VPCID string }
		if _, err := s.Call(ctx, "CreateVPC", Params{"Name": args[0], "Network": args[1], "EnableGateway": gateway}, &r); err != nil {
			return err
		}
		return made(ctx, s, &vpcs, r.VPCID, "Available")
	})
	create.Flags().BoolVar(&gateway, "gateway", false, "turn its gateway on, which links need")
	turn := func(use, short string, on bool) *cobra.Command {
		return vpcs.on(command(use, short, cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
			o, err := vpcs.find(ctx, s, args[0])
			if err != nil {
				return err
			}
			_, err = s.Call(ctx, "UpdateVPCGateway", Params{"VPCID": o.text("VPCID"), "EnableGateway": on}, nil)
			return err
		}))
	}
	return group("vpc", "Private networks", vpcs.listCommand(), vpcs.showCommand(), vpcs.renameCommand(), vpcTopologyCommand(), create, turn("gateway-on VPC", "Turn the gateway on", true),
		turn("gateway-off VPC", "Turn the gateway off", false), deletes("delete VPC...", "Delete empty ones", "DeleteVPC", &vpcs))
}

func subnetCommand() *cobra.Command {
	var dns, gateway string
	create := command("create VPC NAME NETWORK", "Make one inside a VPC", cobra.ExactArgs(3), func(ctx context.Context, s *session, args []string) error {
		vpc, err := vpcs.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		var r struct{ SubnetID string }
		if _, err := s.Call(ctx, "CreateSubnet", Params{"VPCID": vpc.text("VPCID"), "Name": args[1], "Network": args[2], "DNS": dns, "GatewayIP": gateway}, &r); err != nil {
			return err
		}
		return made(ctx, s, &subnets, r.SubnetID, "Available")
	})
	create.Flags().StringVar(&dns, "dns", "", "name servers, comma separated")
	create.Flags().StringVar(&gateway, "gateway", "", "the router's address; else the first usable")
	addresses := subnets.on(command("addresses SUBNET", "List the addresses in use", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		o, err := subnets.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		all, err := s.list(ctx, "ListAllocatedIPsInSubnet", Params{"SubnetID": o.text("SubnetID")})
		if err != nil {
			return err
		}
		return s.show(all, []column{plain("Address", "IP"), plain("MAC", "MAC"), plain("Resource", "ResourceID"), plain("Name", "ResourceName"), plain("Type", "ResourceType"), plain("State", "State")})
	}))
	free := subnets.on(command("free SUBNET", "Count free and used addresses", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		o, err := subnets.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		vpc, err := vpcs.find(ctx, s, o.text("VPCID")) // says whose it is
		if err != nil {
			return err
		}
		var count object
		if _, err := s.Call(ctx, "GetSubnetAvailableIPQuota", Params{"CompanyID": vpc.text("CompanyID"), "SubnetID": o.text("SubnetID")}, &count); err != nil {
			return err
		}
		return s.detail(count, []column{plain("Free", "AvailableCount"), plain("Used", "UsedCount")})
	}))
	return group("subnet", "Subnets", subnets.listCommand(), subnets.showCommand(), subnets.renameCommand(), create, addresses, free, deletes("delete SUBNET...", "Delete unused ones", "DeleteSubnet", &subnets))
}

func routeCommand() *cobra.Command {
	id := func(ctx context.Context, s *session, ref string) (string, error) {
		o, err := subnets.find(ctx, s, ref)
		if err != nil {
			return "", err
		}
		return o.text("SubnetID"), nil
	}
	settled := func(ctx context.Context, s *session, subnet, route string) error {
		return s.wait(ctx, route, func(ctx context.Context) (string, bool, error) {
			all, err := s.list(ctx, "DescribeSubnetRoute", Params{"SubnetID": subnet, "RouteIDs": []string{route}})
			switch {
			case err != nil:
				return "", false, err
			case len(all) == 0:
				return "gone", true, failed(route, "gone", "")
			}
			state := all[0].text("Status")
			return state, !slices.Contains(making, state), nil
		})
	}
	list := subnets.on(command("list SUBNET", "List the routes of a subnet", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		subnet, err := id(ctx, s, args[0])
		if err != nil {
			return err
		}
		all, err := s.list(ctx, "DescribeSubnetRoute", Params{"SubnetID": subnet})
		if err != nil {
			return err
		}
		return s.show(all, routeColumns)
	}))
	list.Aliases = []string{"ls"}
	var remark string
	create := subnets.on(command("create SUBNET DESTINATION TYPE HOP", "Add one; TYPE is VM, VIP or Custom, HOP an id or an address of the subnet", cobra.ExactArgs(4), func(ctx context.Context, s *session, args []string) error {
		subnet, err := id(ctx, s, args[0])
		if err != nil {
			return err
		}
		var r struct{ RouteID string }
		if _, err := s.Call(ctx, "CreateSubnetRoute", Params{"SubnetID": subnet, "Destination": args[1], "NextHopType": args[2], "NextHop": args[3], "Remark": remark}, &r); err != nil {
			return err
		}
		fmt.Fprintln(s.out, r.RouteID)
		return settled(ctx, s, subnet, r.RouteID)
	}))
	create.Flags().StringVar(&remark, "remark", "", "remark")
	remove := subnets.on(command("delete SUBNET ROUTE...", "Delete routes", cobra.MinimumNArgs(2), func(ctx context.Context, s *session, args []string) error {
		subnet, err := id(ctx, s, args[0])
		if err != nil {
			return err
		}
		_, err = s.Call(ctx, "DeleteSubnetRoute", Params{"SubnetID": subnet, "RouteIDs": args[1:]}, nil)
		return err
	}))
	update := subnets.on(command("update SUBNET ROUTE TYPE HOP", "Send one to another next hop", cobra.ExactArgs(4), func(ctx context.Context, s *session, args []string) error {
		subnet, err := id(ctx, s, args[0])
		if err != nil {
			return err
		}
		if _, err := s.Call(ctx, "UpdateSubnetRoute", Params{"SubnetID": subnet, "RouteID": args[1], "NextHopType": args[2], "NextHop": args[3]}, nil); err != nil {
			return err
		}
		return settled(ctx, s, subnet, args[1])
	}))
	return group("route", "Routes of subnets", list, create, update, remove)
}

func peeringCommand() *cobra.Command {
	list := command("list", "List links", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		all, err := s.list(ctx, "DescribeVPCPeering", nil)
		if err != nil {
			return err
		}
		return s.show(all, peeringColumns)
	})
	list.Aliases = []string{"ls"}
	change := func(use, short, action, transient, wanted string) *cobra.Command {
		return vpcs.on(command(use, short, cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
			var ids []string
			for _, ref := range args {
				o, err := vpcs.find(ctx, s, ref)
				if err != nil {
					return err
				}
				ids = append(ids, o.text("VPCID"))
			}
			if _, err := s.Call(ctx, action, Params{"VPCID": ids[0], "PeerType": "VPC", "PeerID": ids[1]}, nil); err != nil {
				return err
			}
			return settleLink(ctx, s, ids[0], ids[1], transient, wanted)
		}))
	}
	return group("peering", "Links of VPCs", list, change("create VPC VPC", "Link two, both with their gateways on", "AssociateVPCPeering", "Allocating", "Available"),
		change("delete VPC VPC", "Remove a link", "DissociateVPCPeering", "Deleting", noLink))
}

// noLink is the state of a link that is not there.
const noLink = "gone"

// settleLink waits until the link of two VPCs is no longer in a transient state, and is as wanted.
func settleLink(ctx context.Context, s *session, vpc, peer, transient, wanted string) error {
	return s.wait(ctx, "the link", func(ctx context.Context) (string, bool, error) {
		all, err := s.list(ctx, "DescribeVPCPeering", Params{"VPCID": vpc})
		if err != nil {
			return "", false, err
		}
		state := noLink
		for _, o := range all {
			if o.text("PeerID") == peer {
				state = o.text("State")
			}
		}
		if state == wanted || state == transient {
			return state, state == wanted, nil
		}
		return state, true, failed("the link", state, "")
	})
}

func nicCommand() *cobra.Command {
	var subnet, segment, ip, sg, mac, charge string
	var bandwidth int
	create := command("create NAME --subnet SUBNET | --segment SEGMENT", "Make one, in a subnet or on an external segment", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		p := Params{"Name": args[0], "NICType": "LAN", "IP": ip, "SGID": sg, "MAC": mac}
		if segment != "" {
			p["NICType"], p["SegmentID"], p["Bandwidth"], p["ChargeType"] = "WAN", segment, bandwidth, charge
		} else {
			o, err := subnets.find(ctx, s, subnet)
			if err != nil {
				return err
			}
			p["SubnetID"], p["VPCID"] = o.text("SubnetID"), o.text("VPCID")
		}
		var r struct{ NICID string }
		if _, err := s.Call(ctx, "CreateNIC", p, &r); err != nil {
			return err
		}
		return made(ctx, s, &nics, r.NICID, "Free")
	})
	f := create.Flags()
	f.StringVar(&subnet, "subnet", "", "subnet id or name")
	f.StringVar(&segment, "segment", "", "external segment")
	f.StringVar(&ip, "ip", "", "wanted address")
	f.StringVar(&sg, "sg", "", "security group id; without one everything passes")
	f.StringVar(&mac, "mac", "", "wanted hardware address")
	f.StringVar(&charge, "charge", "Dynamic", "with --segment: Dynamic, Month or Year")
	f.IntVar(&bandwidth, "bandwidth", 10, "with --segment: Mbps")
	create.MarkFlagsOneRequired("subnet", "segment")
	change := func(use, short, action, state string) *cobra.Command {
		return nics.on(command(use, short, cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
			nic, err := nics.find(ctx, s, args[0])
			if err != nil {
				return err
			}
			vm, err := vms.find(ctx, s, args[1])
			if err != nil {
				return err
			}
			id := nic.text("NICID")
			if _, err := s.Call(ctx, action, Params{"NICID": id, "ResourceID": vm.text("VMID")}, nil); err != nil {
				return err
			}
			return made(ctx, s, &nics, id, state)
		}))
	}
	checkMAC := command("check-mac MAC", "Tell whether a hardware address is taken", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		var r object
		if _, err := s.Call(ctx, "CheckMACInUse", Params{"MAC": args[0]}, &r); err != nil {
			return err
		}
		return s.detail(r, []column{plain("In use", "InUse")})
	})
	return group("nic", "Elastic network interfaces", nics.listCommand(), nics.showCommand(), nics.renameCommand(), create, change("attach NIC VM", "Plug into a machine", "AttachNIC", "Bound"),
		change("detach NIC VM", "Take from a machine", "DetachNIC", "Free"),
		nics.act("mac NIC MAC", "Give a free one another hardware address", "UpdateNICMAC", 1, func(a []string) Params { return Params{"MAC": a[0]} }), checkMAC,
		bandwidths("bandwidth NIC MBPS", "UpdateNICIPBandwidth", &nics), deletes("delete NIC...", "Delete unattached ones", "DeleteNIC", &nics))
}

func vipCommand() *cobra.Command {
	carriers := func(ctx context.Context, s *session, refs []string) (ids []string, err error) {
		for _, ref := range refs {
			o, err := vms.find(ctx, s, ref)
			if err != nil {
				return nil, err
			}
			ids = append(ids, o.text("VMID"))
		}
		return ids, nil
	}
	var ip, vpc, charge string
	var outer bool
	var bandwidth int
	create := command("create SUBNET|SEGMENT NAME [VM...]", "Reserve an address that up to 3 machines may carry", cobra.RangeArgs(2, 5), func(ctx context.Context, s *session, args []string) error {
		p := Params{"Name": args[1], "VIPType": "LAN", "IP": ip}
		if outer {
			o, err := vpcs.find(ctx, s, vpc)
			if err != nil {
				return err
			}
			p["VIPType"], p["SegmentID"], p["VPCID"], p["Bandwidth"], p["ChargeType"] = "WAN", args[0], o.text("VPCID"), bandwidth, charge
		} else {
			o, err := subnets.find(ctx, s, args[0])
			if err != nil {
				return err
			}
			p["SubnetID"], p["VPCID"] = o.text("SubnetID"), o.text("VPCID")
		}
		ids, err := carriers(ctx, s, args[2:])
		if err != nil {
			return err
		}
		p["AssociatedResourceIDs"] = ids
		var r struct{ VIPID string }
		if _, err := s.Call(ctx, "AllocateVIP", p, &r); err != nil {
			return err
		}
		return made(ctx, s, &vips, r.VIPID, "Available")
	})
	f := create.Flags()
	f.StringVar(&ip, "ip", "", "wanted address")
	f.BoolVar(&outer, "outer", false, "on an external segment itself, for machines with NICs there")
	f.StringVar(&vpc, "vpc", "default", "with --outer: VPC of the machines")
	f.StringVar(&charge, "charge", "Dynamic", "with --outer: Dynamic, Month or Year")
	f.IntVar(&bandwidth, "bandwidth", 10, "with --outer: Mbps")
	bind := vips.on(command("bind VIP [VM...]", "Replace the machines that may carry it", cobra.RangeArgs(1, 4), func(ctx context.Context, s *session, args []string) error {
		o, err := vips.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		ids, err := carriers(ctx, s, args[1:])
		if err != nil {
			return err
		}
		id := o.text("VIPID")
		if _, err := s.Call(ctx, "UpdateVIPBindResource", Params{"VIPID": id, "AssociatedResourceIDs": ids}, nil); err != nil {
			return err
		}
		return made(ctx, s, &vips, id, "Available")
	}))
	return group("vip", "Virtual addresses", vips.listCommand(), vips.showCommand(), vips.renameCommand(), create, bind, bandwidths("bandwidth VIP MBPS", "UpdateVIPBandwidth", &vips), deletes("release VIP...", "Give them back", "ReleaseVIP", &vips))
}

func vpcTopologyCommand() *cobra.Command {
	return vpcs.on(command("topology VPC", "List what is in one, and what is joined to what", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		o, err := vpcs.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		var r struct{ Info object }
		if _, err := s.Call(ctx, "DescribeNetworkTopology", Params{"VPCID": o.text("VPCID")}, &r); err != nil {
			return err
		}
		if s.output == "json" {
			return s.json(r.Info)
		}
		if err := s.show(r.Info.list("Nodes"), []column{plain("ID", "ResourceID"), plain("Name", "Name"), plain("Type", "ResourceType"), plain("State", "State")}); err != nil {
			return err
		}
		fmt.Fprintln(s.out)
		return s.show(r.Info.list("Edges"), []column{plain("From", "From"), plain("To", "To"), plain("Kind", "Kind")})
	}))
}
