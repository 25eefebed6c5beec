package cli

import (
	"context"

	"github.com/spf13/cobra"
)

var segments = kind{
	name: "segment", describe: "DescribeSegment", ids: "SegmentIDs", id: "SegmentID", state: "Status", prefix: "seg-",
	columns: []column{plain("ID", "SegmentID"), plain("Name", "Name"), plain("Network", "Segment"), plain("Ranges", "IPRanges"), plain("Gateway", "Gateway"), plain("DHCP", "DHCPServerIP"), plain("Routing", "Routing"),
		plain("Device", "Device"), plain("VLAN", "Vlan"), plain("Free", "AvailableCount"), plain("Used", "UsedCount"), plain("For", "PermissionMode")},
}

var segmentRoutes = []column{plain("ID", "RouteID"), plain("Destination", "Destination"), plain("Next hop", "NextHop"), plain("Remark", "Remark")}

func segmentCommand() *cobra.Command {
	return group("segment", "External network segments", segments.listCommand(), segments.showCommand(), segmentCreateCommand(), segmentUpdateCommand(),
		segmentPermitCommand(), segmentRoutesCommand(), segmentRouteCommand(), segmentRerouteCommand(), segmentUnrouteCommand(), segmentDeleteCommand())
}

// given adds the parameters whose flags were given.
func given(cmd *cobra.Command, p Params, flags map[string]string) {
	for flag, name := range flags {
		if f := cmd.Flags().Lookup(flag); f.Changed {
			p[name] = f.Value.String()
		}
	}
}

var segmentFlags = map[string]string{"device": "Device", "vlan": "Vlan", "gateway": "Gateway", "routing": "RouteMode", "bandwidth": "TotalBandwidth", "dhcp-server": "DHCPServerIP"}

func addSegmentFlags(cmd *cobra.Command, ranges *[]string) {
	f := cmd.Flags()
	f.String("device", "", "provider network, as in the hosts' bridge mappings")
	f.Int("vlan", 0, "VLAN; 0: untagged")
	f.String("gateway", "", "the outside's router; by itself the first usable address")
	f.String("routing", "", "what leaves by it: Default, Specified or None")
	f.Int("bandwidth", 0, "Mbps of all its public addresses together; 0: no limit")
	f.String("dhcp-server", "", "address that DHCP answers from, which turns it on; by itself the gateway's")
	f.Bool("dhcp", false, "offer interfaces on it their addresses")
	f.StringArrayVar(ranges, "range", nil, "first-last of what is handed out; by itself the whole network")
}

func segmentCreateCommand() *cobra.Command {
	var ranges []string
	var cmd *cobra.Command
	cmd = command("create NAME CIDR --device NETWORK", "Make one (administrators)", cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
		p := Params{"Name": args[0], "Segment": args[1], "IPRanges": ranges}
		given(cmd, p, segmentFlags)
		if dhcp, server := cmd.Flags().Lookup("dhcp"), cmd.Flags().Lookup("dhcp-server"); dhcp.Changed || server.Changed {
			p["EnableDHCP"] = server.Changed || dhcp.Value.String() == "true"
		}
		var made struct{ SegmentID string }
		if _, err := s.Call(ctx, "CreateSegment", p, &made); err != nil {
			return err
		}
		o, err := segments.find(ctx, s, made.SegmentID)
		if err != nil {
			return err
		}
		return s.detail(o, segments.columns)
	})
	addSegmentFlags(cmd, &ranges)
	cmd.MarkFlagRequired("device")
	return cmd
}

func segmentUpdateCommand() *cobra.Command {
	var ranges []string
	var cmd *cobra.Command
	cmd = segments.on(command("update SEGMENT", "Change one (administrators)", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		o, err := segments.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		id := o.text("SegmentID")
		p := Params{"SegmentID": id, "UpdateMode": "All", "IPRanges": ranges}
		given(cmd, p, segmentFlags)
		given(cmd, p, map[string]string{"dhcp": "EnableDHCP"})
		if _, err := s.Call(ctx, "UpdateSegment", p, nil); err != nil {
			return err
		}
		if o, err = segments.find(ctx, s, id); err != nil {
			return err
		}
		return s.detail(o, segments.columns)
	}))
	addSegmentFlags(cmd, &ranges)
	return cmd
}

func segmentPermitCommand() *cobra.Command {
	var mode, tenants string
	cmd := segments.on(command("permit SEGMENT", "Choose which tenants may use it (administrators)", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		o, err := segments.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		_, err = s.Call(ctx, "UpdateResourcePermission", Params{"ResourceID": o.text("SegmentID"), "ResourceType": "SEGMENT", "PermissionMode": mode, "Permission": tenants}, nil)
		return err
	}))
	cmd.Flags().StringVar(&mode, "mode", "all", "all, whitelist or blacklist")
	cmd.Flags().StringVar(&tenants, "tenants", "", "tenant ids, comma separated")
	return cmd
}

func segmentRoutesCommand() *cobra.Command {
	return segments.on(command("routes SEGMENT", "List its routes", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		o, err := segments.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		all, err := s.list(ctx, "DescribeSegmentRoute", Params{"SegmentID": o.text("SegmentID")})
		if err != nil {
			return err
		}
		return s.show(all, segmentRoutes)
	}))
}

func segmentRouteCommand() *cobra.Command {
	return segments.on(command("route SEGMENT CIDR NEXT-HOP", "Add a route (administrators)", cobra.ExactArgs(3), func(ctx context.Context, s *session, args []string) error {
		o, err := segments.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		_, err = s.Call(ctx, "CreateSegmentRoute", Params{"SegmentID": o.text("SegmentID"), "Destination": args[1], "NextHop": args[2]}, nil)
		return err
	}))
}

func segmentRerouteCommand() *cobra.Command {
	return segments.on(command("reroute SEGMENT ROUTE NEXT-HOP", "Send a route to another next hop (administrators)", cobra.ExactArgs(3), func(ctx context.Context, s *session, args []string) error {
		o, err := segments.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		_, err = s.Call(ctx, "UpdateSegmentRoute", Params{"SegmentID": o.text("SegmentID"), "RouteID": args[1], "NextHop": args[2]}, nil)
		return err
	}))
}

func segmentUnrouteCommand() *cobra.Command {
	return segments.on(command("unroute SEGMENT ROUTE...", "Delete routes (administrators)", cobra.MinimumNArgs(2), func(ctx context.Context, s *session, args []string) error {
		o, err := segments.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		_, err = s.Call(ctx, "DeleteSegmentRoute", Params{"SegmentID": o.text("SegmentID"), "RouteIDs": args[1:]}, nil)
		return err
	}))
}

func segmentDeleteCommand() *cobra.Command {
	return segments.on(command("delete SEGMENT...", "Delete those that nothing uses (administrators)", cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
		return each(args, func(ref string) error {
			o, err := segments.find(ctx, s, ref)
			if err != nil {
				return err
			}
			_, err = s.Call(ctx, "DeleteSegment", Params{"SegmentID": o.text("SegmentID")}, nil)
			return err
		})
	}))
}
