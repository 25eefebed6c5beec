package identity

// product is what actions are grouped by: one a module of the API. Those with a category are services of the
// catalogue, which administrators open and close; the others belong to the platform itself.
type product struct {
	Type     string
	Name     string
	Module   string
	Category string
}

// Categories of services.
const (
	basic    = "Basic"
	advanced = "Advanced"
)

// products in the order in which people read them.
var products = []product{
	{"VM", "Virtual machines", "vm", basic},
	{"Image", "Images", "image", basic},
	{"Disk", "Disks", "disk", basic},
	{"Snapshot", "Snapshots", "snapshot", basic},
	{"VPC", "Private networks", "vpc", basic},
	{"NIC", "Network interfaces", "nic", basic},
	{"VIP", "Virtual addresses", "vip", basic},
	{"Multicast", "Multicast", "multicast", basic},
	{"EIP", "Public addresses", "eip", basic},
	{"SG", "Security groups", "security_group", basic},
	{"DirectConnect", "Direct connections", "direct_connect", advanced},
	{"LB", "Load balancers", "lb", basic},
	{"NATGW", "NAT gateways", "natgw", basic},
	{"VPNGW", "VPN gateways", "ipsecvpn", basic},
	{"AutoScaling", "Automatic scaling", "autoscaling", basic},
	{"IsolationGroup", "Isolation groups", "isolation_group", basic},
	{"Monitor", "Monitoring and alarms", "monitor", basic},
	{"Timer", "Timed jobs", "timer", basic},
	{"Tag", "Tags", "tag", ""},
	{"Recycle", "Recycle bin", "recycle", ""},
	{"Account", "Accounts, roles and project groups", "account", ""},
	{"Tenant", "Tenants and services", "tenant", ""},
	{"Approval", "Approval", "approval", ""},
	{"Billing", "Billing", "billing", ""},
	{"Config", "Configuration", "config", ""},
	{"License", "Licences", "license", ""},
	{"Cluster", "Clusters", "cluster", ""},
	{"Node", "Hosts", "node", ""},
	{"Common", "Regions and logs", "common", ""},
}

// productByType finds a product; nil when there is none.
func productByType(name string) *product {
	for i := range products {
		if products[i].Type == name {
			return &products[i]
		}
	}
	return nil
}

// productOf finds the product of a module; nil when there is none.
func productOf(module string) *product {
	for i := range products {
		if products[i].Module == module {
			return &products[i]
		}
	}
	return nil
}
