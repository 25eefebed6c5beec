package network_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type P = controllertest.P

// cloud is a controller with what these tests do often.
type cloud struct {
	*controllertest.Cloud
	vpc, subnet, group, image string // the demo tenant's
}

func start(t *testing.T, db *database.DB, configure func(*controller.Config)) *cloud {
	t.Helper()
	c := &cloud{Cloud: controllertest.Start(t, controllertest.Options{DB: db, Configure: configure})}
	c.vpc = c.Demo.Must(t, "DescribeVPC", nil).Infos()[0].String("VPCID")
	c.subnet = c.Demo.Must(t, "DescribeSubnet", nil).Infos()[0].String("SubnetID")
	c.group = c.Demo.Must(t, "DescribeSecurityGroup", nil).Infos()[0].String("SGID")
	c.image = c.Demo.Must(t, "DescribeImage", nil).Infos()[0].String("ImageID")
	t.Cleanup(func() { // nothing is counted wrongly, whatever a test did
		problems, err := c.Network.Verify(context.Background())
		if err != nil || len(problems) > 0 {
			t.Errorf("the network is not sound: %q, %v", problems, err)
		}
	})
	return c
}

// segment replaces the simulated cloud's.
func segment(cidr string) func(*controller.Config) {
	return func(c *controller.Config) {
		c.Segment = controller.Segment{CIDR: netip.MustParsePrefix(cidr), Network: "provider"}
	}
}

// create are the parameters of a machine.
func (c *cloud) create(more P) P {
	p := P{"Name": "m", "VMType": fleet.FirstVMType, "ImageID": c.image, "CPU": 1, "Memory": 1024, "BootDiskSetType": fleet.FirstStorageType,
		"VPCID": c.vpc, "SubnetID": c.subnet, "WANSGID": c.group, "ChargeType": "Dynamic", "Password": "Walking.1"}
	for k, v := range more {
		p[k] = v
	}
	return p
}

// vm makes a running machine.
func (c *cloud) vm(t *testing.T, more P) string {
	t.Helper()
	id := c.Demo.Must(t, "CreateVMInstance", c.create(more)).String("VMID")
	c.vmState(t, id, "Running")
	return id
}

func (c *cloud) vmState(t *testing.T, id, want string) {
	t.Helper()
	controllertest.Eventually(t, 30*time.Second, id+" is "+want, func() bool {
		all := c.Demo.Must(t, "DescribeVMInstance", P{"VMIDs": []string{id}}).Infos()
		return len(all) == 1 && all[0].String("State") == want
	})
}

func (c *cloud) eip(t *testing.T, more P) string {
	t.Helper()
	p := P{"OperatorName": "Bgp", "Bandwidth": 2, "ChargeType": "Month", "Name": "web"}
	for k, v := range more {
		p[k] = v
	}
	return c.Demo.Must(t, "AllocateEIP", p).String("EIPID")
}

func (c *cloud) info(t *testing.T, eip string) controllertest.Info {
	t.Helper()
	all := c.Demo.Must(t, "DescribeEIP", P{"EIPIDs": []string{eip}}).Infos()
	if len(all) != 1 {
		t.Fatalf("%d rows of %s", len(all), eip)
	}
	return all[0]
}

// soon makes a call of the tenant as soon as what it changes is not busy any more.
func (c *cloud) soon(t *testing.T, name string, p P) {
	t.Helper()
	controllertest.Eventually(t, 30*time.Second, name+" is accepted", func() bool {
		r := c.Demo.Call(t, name, p)
		if r.Code != retcode.OK && !strings.Contains(r.Message, " is busy with ") {
			t.Fatalf("%s answered %d %q", name, r.Code, r.Message)
		}
		return r.Code == retcode.OK
	})
}

func (c *cloud) eipState(t *testing.T, eip, want string) {
	t.Helper()
	controllertest.Eventually(t, 30*time.Second, eip+" is "+want, func() bool { return c.info(t, eip).String("Status") == want })
}

func on(eip, vm string) P { return P{"EIPID": eip, "ResourceType": "VM", "ResourceID": vm} }

// hold makes the fabric refuse changes until the returned function is called, so that transient states stay.
func (c *cloud) hold(t *testing.T) (release func()) {
	t.Helper()
	m := c.Fabric.(*fabric.Memory)
	m.Fail("EnsureVPC", 1<<30, errors.New("northbound is away"))
	release = func() { m.Fail("EnsureVPC", 0, nil) }
	t.Cleanup(release)
	return release
}

// TestTenantsStartFurnished: a default VPC, subnet and security group, of the tenant alone.
func TestTenantsStartFurnished(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		other := c.NewTenant(t)
		vpcs := other.Must(t, "DescribeVPC", nil)
		if vpcs.Int("TotalCount") != 1 {
			t.Fatalf("%v", vpcs.Body)
		}
		vpc := vpcs.Infos()[0]
		if vpc.String("VPCID") == c.vpc || vpc.String("Network") != "10.0.0.0/16" || vpc.String("State") != "Available" || vpc.String("IsDefault") != "true" ||
			vpc.Int("SubnetCount") != 1 || vpc.String("Email") != other.Email || vpc.Int("CompanyID") != int(other.Company) {
			t.Errorf("VPC %v", vpc)
		}
		inside := vpc.List("SubnetInfos")
		subnet := other.Must(t, "DescribeSubnet", P{"VPCID": vpc.String("VPCID")}).Infos()[0]
		if len(inside) != 1 || inside[0].String("SubnetID") != subnet.String("SubnetID") || subnet.String("Network") != "10.0.0.0/24" || subnet.String("Subnet") != "10.0.0.0/24" ||
			subnet.String("Gateway") != "10.0.0.1" || subnet.Int("AvailableCount") != 252 || subnet.Int("UsedCount") != 0 {
			t.Errorf("subnet %v in %v", subnet, inside)
		}
		group := other.Must(t, "DescribeSecurityGroup", nil).Infos()[0]
		var rules []string
		for _, r := range group.List("Rule") {
			rules = append(rules, fmt.Sprint(r.String("ProtocolType"), "|", r.String("DstPort"), "|", r.String("SrcIP"), "|", r.String("RuleAction"), "|", r.String("IsIn")))
		}
		want := []string{"ALL||0.0.0.0/0|ACCEPT|0", "ALL||VPC|ACCEPT|1", "ICMP||0.0.0.0/0|ACCEPT|1", "TCP|22|0.0.0.0/0|ACCEPT|1", "TCP|3389|0.0.0.0/0|ACCEPT|1",
			"TCP|80|0.0.0.0/0|ACCEPT|1", "TCP|443|0.0.0.0/0|ACCEPT|1"}
		if !slices.Equal(rules, want) || group.Int("RuleCount") != 7 || group.String("IsDefault") != "true" || group.Int("ResourceCount") != 0 {
			t.Errorf("group %v with %q", group, rules)
		}

		// Nobody sees another tenant's; an administrator sees all, or one tenant's.
		for name, key := range map[string]string{"DescribeVPC": "VPCIDs", "DescribeSubnet": "SubnetIDs", "DescribeSecurityGroup": "SGIDs"} {
			id := map[string]string{"DescribeVPC": c.vpc, "DescribeSubnet": c.subnet, "DescribeSecurityGroup": c.group}[name]
			if n := other.Must(t, name, P{key: []string{id}}).Int("TotalCount"); n != 0 {
				t.Errorf("%s shows another tenant's", name)
			}
			if n := c.Admin.Must(t, name, P{key: []string{id}}).Int("TotalCount"); n != 1 {
				t.Errorf("%s hides a tenant's from the administrator", name)
			}
			if n := c.Admin.Must(t, name, P{"CompanyID": other.Company}).Int("TotalCount"); n != 1 {
				t.Errorf("%s as a tenant: %d", name, n)
			}
			if r := other.Must(t, name, P{"Keyword": "EFAUL"}); r.Int("TotalCount") != 1 {
				t.Errorf("%s by keyword: %v", name, r.Body)
			}
			if r := other.Must(t, name, P{"Limit": 0}); r.Int("TotalCount") != 1 || len(r.Infos()) != 0 {
				t.Errorf("%s of an empty page: %v", name, r.Body)
			}
			other.Refuse(t, retcode.InvalidParameter, name, P{"Limit": 101})
			other.Refuse(t, retcode.InvalidParameter, name, P{"Offset": -1})
			other.Refuse(t, retcode.InvalidParameterFormat, name, P{"Limit": "ten"})
		}
	})
}

func TestAllocateEIP(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, segment("203.0.113.0/28")) // 13 addresses: .2 to .14
		good := P{"OperatorName": "Bgp", "Bandwidth": 2, "ChargeType": "Month", "Name": "web"}
		refuse := func(code retcode.Code, more P) {
			t.Helper()
			p := P{}
			for _, from := range []P{good, more} {
				for k, v := range from {
					p[k] = v
				}
			}
			r := c.Demo.Refuse(t, code, "AllocateEIP", p)
			if len(r.Message) < 10 {
				t.Errorf("%v: %q says too little", more, r.Message)
			}
		}
		for _, name := range []string{"Name", "ChargeType", "Bandwidth", "OperatorName"} {
			refuse(retcode.MissingParameter, P{name: ""})
		}
		refuse(retcode.InvalidParameterFormat, P{"Bandwidth": "wide"})
		refuse(retcode.InvalidParameterFormat, P{"IP": "203.0.113"})
		refuse(retcode.InvalidParameterFormat, P{"IP": "fe80::1%eth0"})
		refuse(retcode.InvalidParameter, P{"ChargeType": "Weekly"})
		refuse(retcode.InvalidParameter, P{"Quantity": 12})
		refuse(retcode.InvalidParameter, P{"Quantity": 0})
		refuse(retcode.InvalidParameter, P{"ChargeType": "Year", "Quantity": 6})
		refuse(retcode.InvalidParameter, P{"Name": strings.Repeat("n", 64)})
		refuse(retcode.InvalidParameter, P{"Name": "a\nb"})
		refuse(retcode.InvalidParameter, P{"Name": "   "})
		refuse(retcode.InvalidParameter, P{"Remark": strings.Repeat("r", 101)})
		refuse(retcode.InvalidParameter, P{"Count": 11})
		refuse(retcode.InvalidParameter, P{"Count": 2, "IP": "203.0.113.5"})
		refuse(retcode.InvalidParameter, P{"IPVersion": "IPv6"})
		refuse(retcode.InvalidParameterFormat, P{"TagKeyValuePairs": []string{"YQ"}})
		refuse(retcode.ProjectNotFound, P{"ProjectID": "project-none"})
		refuse(retcode.ResourceNotFound, P{"OperatorName": "Nowhere"})
		refuse(retcode.BandwidthOutOfRange, P{"Bandwidth": 0})
		refuse(retcode.BandwidthOutOfRange, P{"Bandwidth": -1})
		refuse(retcode.BandwidthOutOfRange, P{"Bandwidth": 10001})
		refuse(retcode.IPOutOfSegment, P{"IP": "203.0.113.16"})
		refuse(retcode.IPOutOfSegment, P{"IP": "2001:db8::1"})
		refuse(retcode.IPReserved, P{"IP": "203.0.113.0"})
		refuse(retcode.IPReserved, P{"IP": "203.0.113.1"})
		refuse(retcode.IPReserved, P{"IP": "203.0.113.15"})

		id := c.eip(t, P{"IP": "203.0.113.5", "Name": " 网站 ", "Remark": "for <all>", "AutoRenew": true})
		e := c.info(t, id)
		if e.String("IP") != "203.0.113.5" || e.String("Status") != "Free" || e.String("Name") != "网站" || e.String("Remark") != "for <all>" || e.Int("Bandwidth") != 2 ||
			e.String("OperatorName") != "Bgp" || e.String("AutoRenew") != "true" || e.Int("CanDefaultGW") != 1 || e.String("Email") != c.Demo.Email || e.String("IPVersion") != "IPv4" {
			t.Errorf("%v", e)
		}
		refuse(retcode.IPAlreadyAllocated, P{"IP": "203.0.113.5"})

		// A router that a VPC needed takes an address, too.
		vm := c.vm(t, nil)
		c.Demo.Must(t, "BindEIP", on(id, vm))
		c.eipState(t, id, "Bound")
		var router string
		if err := c.DB.Reader().NewRaw("SELECT ip FROM gateway").Scan(t.Context(), &router); err != nil {
			t.Fatal(err)
		}
		refuse(retcode.IPReserved, P{"IP": router})

		r := c.Demo.Must(t, "AllocateEIP", P{"OperatorName": e.String("SegmentID"), "Bandwidth": 1, "ChargeType": "Dynamic", "Name": "many", "Count": 9})
		ids, _ := r.Body["EIPIDs"].([]any)
		if len(ids) != 9 || fmt.Sprint(ids[0]) != r.String("EIPID") {
			t.Errorf("%v", r.Body)
		}
		refuse(retcode.QuotaExceeded, nil)
		if err := c.Catalog.SetAllowance(t.Context(), c.Demo.Company, "cn", catalog.EIP, 20); err != nil {
			t.Fatal(err)
		}
		refuse(retcode.IPInsufficient, P{"Count": 3}) // two are left
		if n := c.Demo.Must(t, "DescribeEIP", nil).Int("TotalCount"); n != 10 {
			t.Errorf("%d addresses after a refusal, want 10", n)
		}
		c.Demo.Must(t, "AllocateEIP", P{"OperatorName": "Bgp", "Bandwidth": 1, "ChargeType": "Dynamic", "Name": "last", "Count": 2})
		refuse(retcode.IPInsufficient, nil)
	})
}

func TestDescribeEIP(t *testing.T) {
	c := start(t, dbtest.SQLite(t), nil)
	vm := c.vm(t, P{"Name": "web-server"})
	one, two := c.eip(t, P{"Name": "Front"}), c.eip(t, P{"Name": "back_end%"})
	c.Demo.Must(t, "BindEIP", on(one, vm))
	c.eipState(t, one, "Bound")
	ip := c.info(t, one).String("IP")
	list := func(want int, p P) []controllertest.Info {
		t.Helper()
		r := c.Demo.Must(t, "DescribeEIP", p)
		if r.Int("TotalCount") != want || r.Int("Totalcount") != want {
			t.Errorf("%v: %d match, want %d", p, r.Int("TotalCount"), want)
		}
		return r.Infos()
	}
	list(2, nil)
	list(1, P{"Keyword": "front"})
	list(1, P{"Keyword": "_end%"})
	list(0, P{"Keyword": "%" + "x"})
	list(1, P{"Keyword": ip})
	list(1, P{"IPs": []string{ip, "192.0.2.1"}})
	list(1, P{"IPStatus": "Free"})
	list(2, P{"OperatorName": "Bgp"})
	list(0, P{"OperatorName": "Other"})
	list(0, P{"IPVersion": "IPv6"})
	list(0, P{"ProjectIDs": []string{"project-x"}})
	list(0, P{"TagKeyValuePairs": []string{"YQ==:Yg=="}})
	c.Demo.Refuse(t, retcode.InvalidParameter, "DescribeEIP", P{"IPVersion": "IPv5"})
	if page := list(2, P{"Limit": 1, "Offset": 1}); len(page) != 1 || page[0].String("EIPID") != one {
		t.Errorf("second page: %v", page)
	}
	if page := list(2, P{"Offset": 2}); len(page) != 0 {
		t.Errorf("third page: %v", page)
	}
	bound := list(1, P{"BindResourceID": vm})[0]
	if bound.String("EIPID") != one || bound.String("BindResourceType") != "VM" || bound.String("BindResourceName") != "web-server" || bound.Int("ISDefaultGW") != 1 ||
		bound.Int("IsDefaultGW") != 1 || bound.Int("BindTime") == 0 {
		t.Errorf("%v", bound)
	}
	if free := c.info(t, two); free.String("BindResourceID") != "" || free.Int("ISDefaultGW") != 0 || free.Int("BindTime") != 0 {
		t.Errorf("%v", free)
	}
	if n := c.NewTenant(t).Must(t, "DescribeEIP", P{"EIPIDs": []string{one}}).Int("TotalCount"); n != 0 {
		t.Error("another tenant sees it")
	}
}

// TestBindEIP walks through the states in which binding and unbinding are asked for.
func TestBindEIP(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		vm, other := c.vm(t, nil), c.vm(t, nil)
		eip := c.eip(t, nil)

		for _, name := range []string{"BindEIP", "UnBindEIP"} {
			for _, p := range []string{"EIPID", "ResourceType", "ResourceID"} {
				bad := on(eip, vm)
				bad[p] = ""
				c.Demo.Refuse(t, retcode.MissingParameter, name, bad)
			}
			c.Demo.Refuse(t, retcode.ResourceNotFound, name, on("eip-none", vm))
			c.Demo.Refuse(t, retcode.VMNotFound, name, on(eip, "vm-none"))
			c.Demo.Refuse(t, retcode.InvalidResourceType, name, P{"EIPID": eip, "ResourceType": "Toaster", "ResourceID": vm})
			c.Demo.Refuse(t, retcode.InvalidResourceType, name, P{"EIPID": eip, "ResourceType": "LB", "ResourceID": vm})
			c.Demo.Refuse(t, retcode.InvalidResourceType, name, on(eip, "disk-none"))
			stranger := c.NewTenant(t)
			stranger.Refuse(t, retcode.ResourceNotFound, name, on(eip, vm))
		}
		c.Demo.Refuse(t, retcode.InvalidResourceState, "UnBindEIP", on(eip, vm)) // Free

		release := c.hold(t)
		c.Demo.Must(t, "BindEIP", on(eip, vm))
		c.eipState(t, eip, "Bounding")
		c.Demo.Must(t, "BindEIP", on(eip, vm)) // still under way
		c.Demo.Refuse(t, retcode.InvalidResourceState, "BindEIP", on(eip, other))
		c.Demo.Refuse(t, retcode.InvalidResourceState, "UnBindEIP", on(eip, vm))
		c.Demo.Refuse(t, retcode.InvalidResourceState, "ReleaseEIP", P{"EIPID": eip})
		release()
		c.eipState(t, eip, "Bound")
		c.Demo.Must(t, "BindEIP", on(eip, vm)) // so already
		c.Demo.Refuse(t, retcode.InvalidResourceState, "BindEIP", on(eip, other))
		c.Demo.Refuse(t, retcode.InvalidResourceState, "UnBindEIP", on(eip, other))
		c.Demo.Refuse(t, retcode.EIPStillBound, "ReleaseEIP", P{"EIPID": eip})

		release = c.hold(t)
		c.Demo.Must(t, "UnBindEIP", on(eip, vm))
		c.eipState(t, eip, "Unbounding")
		c.Demo.Must(t, "UnBindEIP", on(eip, vm))
		c.Demo.Refuse(t, retcode.InvalidResourceState, "BindEIP", on(eip, vm))
		release()
		c.eipState(t, eip, "Free")

		// The audit log tells the outcome of what went on after the answer.
		logged := c.eip(t, nil)
		c.Demo.Must(t, "BindEIP", on(logged, other))
		if log := c.Demo.OPLog(t, "BindEIP", logged); log.Int("RetCode") != 0 || log.String("IsSuccess") != "Yes" {
			t.Errorf("audit: %v", log)
		}

		// A stopped machine takes addresses, one in between does not.
		c.Demo.Must(t, "StopVMInstance", P{"VMID": vm})
		c.vmState(t, vm, "Stopped")
		c.Demo.Must(t, "BindEIP", on(eip, vm))
		c.eipState(t, eip, "Bound")
		c.Demo.Must(t, "UnBindEIP", on(eip, vm))
		c.eipState(t, eip, "Free")
		c.Demo.Must(t, "DeleteVMInstance", P{"VMID": vm})
		controllertest.Eventually(t, 30*time.Second, "the machine is in the bin", func() bool {
			return c.Demo.Call(t, "BindEIP", on(eip, vm)).Code == retcode.InvalidVMBizState
		})
		c.Demo.Refuse(t, retcode.InvalidVMBizState, "BindEIP", on(eip, vm))

		release = c.hold(t)
		starting := c.Demo.Must(t, "CreateVMInstance", c.create(nil)).String("VMID")
		c.Demo.Refuse(t, retcode.InvalidVMState, "BindEIP", on(eip, starting))
		release()
		c.vmState(t, starting, "Running")
	})
}

// TestEIPRecycling takes an address to the bin, back and away.
func TestEIPRecycling(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, segment("203.0.113.0/29")) // five addresses
		vm := c.vm(t, nil)
		eip := c.eip(t, P{"IP": "203.0.113.4"})
		id := P{"ResourceID": eip}
		c.Demo.Refuse(t, retcode.MissingParameter, "ReleaseEIP", nil)
		c.Demo.Refuse(t, retcode.ResourceNotFound, "ReleaseEIP", P{"EIPID": "eip-none"})
		c.Demo.Refuse(t, retcode.ResourceAlreadyEnabled, "RollbackResource", id) // not in the bin
		c.Demo.Refuse(t, retcode.InvalidResourceBizState, "TerminateResource", id)
		c.Demo.Must(t, "ReleaseEIP", P{"EIPID": eip})
		if n := c.Demo.Must(t, "DescribeEIP", nil).Int("TotalCount"); n != 0 {
			t.Error("the list shows what is in the bin")
		}
		for _, name := range []string{"BindEIP", "UnBindEIP"} {
			c.Demo.Refuse(t, retcode.ResourceDeleted, name, on(eip, vm))
		}
		c.Demo.Refuse(t, retcode.ResourceDeleted, "ReleaseEIP", P{"EIPID": eip})
		c.Demo.Refuse(t, retcode.IPAlreadyAllocated, "AllocateEIP", P{"OperatorName": "Bgp", "Bandwidth": 1, "ChargeType": "Dynamic", "Name": "n", "IP": "203.0.113.4"})

		// Its month was paid back: it comes out of the bin when it is paid for again.
		c.Demo.Refuse(t, retcode.ResourceExpired, "RollbackResource", id)
		c.Demo.Must(t, "RenewResource", id)
		c.Demo.Must(t, "RollbackResource", id)
		c.eipState(t, eip, "Free")
		if ip := c.info(t, eip).String("IP"); ip != "203.0.113.4" {
			t.Errorf("came back as %s", ip)
		}
		// In the bin it uses no quota, and may find none left on its way back.
		c.Demo.Must(t, "ReleaseEIP", P{"EIPID": eip})
		if err := c.Catalog.SetAllowance(t.Context(), c.Demo.Company, "cn", catalog.EIP, 1); err != nil {
			t.Fatal(err)
		}
		second := c.eip(t, nil)
		c.Demo.Must(t, "RenewResource", id)
		c.Demo.Refuse(t, retcode.QuotaExceeded, "RollbackResource", id)
		c.Demo.Must(t, "BindEIP", on(second, vm))
		c.eipState(t, second, "Bound")
		c.Demo.Refuse(t, retcode.EIPStillBound, "TerminateResource", P{"ResourceID": second})
		c.Demo.Must(t, "TerminateResource", id)
		c.Demo.Refuse(t, retcode.ResourceTerminated, "TerminateResource", id)
		c.Demo.Refuse(t, retcode.ResourceTerminated, "ReleaseEIP", P{"EIPID": eip})
		c.Demo.Refuse(t, retcode.ResourceTerminated, "BindEIP", on(eip, vm))
		if err := c.Catalog.SetAllowance(t.Context(), c.Demo.Company, "cn", catalog.EIP, 5); err != nil {
			t.Fatal(err)
		}
		c.eip(t, P{"IP": "203.0.113.4"}) // free for anybody again
	})
}

// TestEIPLimits: 50 addresses a machine, and no two alike.
func TestEIPLimits(t *testing.T) {
	c := start(t, dbtest.SQLite(t), nil)
	if err := c.Catalog.SetAllowance(t.Context(), c.Demo.Company, "cn", catalog.EIP, 60); err != nil {
		t.Fatal(err)
	}
	vm := c.vm(t, nil)
	var eips []string
	for range 6 {
		ids := c.Demo.Must(t, "AllocateEIP", P{"OperatorName": "Bgp", "Bandwidth": 1, "ChargeType": "Dynamic", "Name": "n", "Count": 9}).Body["EIPIDs"].([]any)
		for _, id := range ids {
			eips = append(eips, fmt.Sprint(id))
		}
	}
	for _, id := range eips[:50] {
		c.Demo.Must(t, "BindEIP", on(id, vm))
	}
	c.Demo.Refuse(t, retcode.BindLimitReached, "BindEIP", on(eips[50], vm))
	for _, id := range eips[:50] {
		c.eipState(t, id, "Bound")
	}
	controllertest.Eventually(t, 10*time.Second, "one of them is the default egress", func() bool {
		n := 0
		for _, i := range c.Demo.Must(t, "DescribeEIP", P{"BindResourceID": vm, "Limit": 100}).Infos() {
			n += i.Int("ISDefaultGW")
		}
		return n == 1
	})
	// Deleting the machine frees them all.
	c.Demo.Must(t, "DeleteVMInstance", P{"VMID": vm})
	controllertest.Eventually(t, 30*time.Second, "all are free", func() bool {
		return c.Demo.Must(t, "DescribeEIP", P{"IPStatus": "Free"}).Int("TotalCount") == 54
	})
}

func TestSameAddressTwice(t *testing.T) {
	c := start(t, dbtest.SQLite(t), segment("10.0.0.0/24")) // an operator's private range, which tenants use, too
	vm := c.vm(t, P{"InternalIP": "10.0.0.77"})
	c.Demo.Refuse(t, retcode.DuplicateIPBinding, "BindEIP", on(c.eip(t, P{"IP": "10.0.0.77"}), vm))
}

// TestSubnetAddresses: what machines ask of a subnet.
func TestSubnetAddresses(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		refuse := func(code retcode.Code, more P) {
			t.Helper()
			c.Demo.Refuse(t, code, "CreateVMInstance", c.create(more))
		}
		refuse(retcode.VPCNotFound, P{"VPCID": "vpc-none"})
		refuse(retcode.SubnetNotFound, P{"SubnetID": "subnet-none"})
		refuse(retcode.SGNotFound, P{"WANSGID": "sg-none"})
		refuse(retcode.SGNotFound, P{"LANSGID": "sg-none"})
		refuse(retcode.InvalidParameterFormat, P{"InternalIP": "10.0.0"})
		refuse(retcode.IPOutOfSegment, P{"InternalIP": "10.0.1.5"})
		refuse(retcode.IPReserved, P{"InternalIP": "10.0.0.1"})
		refuse(retcode.IPReserved, P{"InternalIP": "10.0.0.255"})
		c.vm(t, P{"InternalIP": "10.0.0.9"})
		refuse(retcode.IPAlreadyAllocated, P{"InternalIP": "10.0.0.9"})
		if n := c.Demo.Must(t, "DescribeSubnet", nil).Infos()[0].Int("AvailableCount"); n != 251 {
			t.Errorf("%d addresses left, want 251", n)
		}
		if n := c.Demo.Must(t, "DescribeSecurityGroup", nil).Infos()[0]; n.Int("ResourceCount") != 1 || n.Int("BindCount") != 2 {
			t.Errorf("the group's users: %v", n)
		}
		stranger := c.NewTenant(t)
		stranger.Refuse(t, retcode.VPCNotFound, "CreateVMInstance", c.create(nil))

		small := c.newSubnet(t, c.vpc, "10.0.8.0/29", nil) // of four
		for range 4 {
			c.vm(t, P{"SubnetID": small})
		}
		refuse(retcode.SubnetIPInsufficient, P{"SubnetID": small})
	})
}

func TestSecurityGroups(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		good := []string{"TCP|80,443|0.0.0.0/0|ACCEPT|HIGH|1", "PING||any|ACCEPT|LOW|1"}
		for _, bad := range []struct {
			code retcode.Code
			p    P
		}{
			{retcode.MissingParameter, P{"Rule": good}},
			{retcode.MissingParameter, P{"Name": "n"}},
			{retcode.InvalidParameterFormat, P{"Name": "n", "Rule": []string{"TCP|80"}}},
			{retcode.InvalidParameter, P{"Name": "n", "Rule": []string{"TCP|0|any|ACCEPT|HIGH|1"}}},
			{retcode.InvalidParameter, P{"Name": strings.Repeat("n", 64), "Rule": good}},
			{retcode.InvalidParameter, P{"Name": "n", "Remark": strings.Repeat("r", 101), "Rule": good}},
			{retcode.InvalidParameter, P{"Name": "n", "Rule": many(101)}},
			{retcode.ProjectNotFound, P{"Name": "n", "Rule": good, "ProjectID": "project-none"}},
			{retcode.ResourceNotFound, P{"Name": "n", "Rule": []string{"TCP|80|ipgroup-none|ACCEPT|HIGH|1"}}},
			{retcode.SGRuleDuplicated, P{"Name": "n", "Rule": []string{good[0], "TCP|443,80|any|DROP|LOW|1"}}},
		} {
			r := c.Demo.Refuse(t, bad.code, "CreateSecurityGroup", bad.p)
			if rules, ok := bad.p["Rule"].([]string); ok && bad.code == retcode.InvalidParameterFormat && !strings.Contains(r.Message, rules[0]) {
				t.Errorf("%q does not name the rule", r.Message)
			}
		}
		id := c.Demo.Must(t, "CreateSecurityGroup", P{"Name": "web", "Remark": "pages", "Rules": good}).String("SGID")
		read := func() controllertest.Info {
			return c.Demo.Must(t, "DescribeSecurityGroup", P{"SGIDs": []string{id}}).Infos()[0]
		}
		if g := read(); g.String("Status") != "Available" || g.Int("RuleCount") != 2 || g.String("Remark") != "pages" || g.String("IsDefault") != "false" {
			t.Errorf("%v", g)
		}
		if first := c.Demo.Must(t, "DescribeSecurityGroup", nil).Infos()[0]; first.String("SGID") != c.group {
			t.Error("the default group is not the first of the list")
		}
		if n := c.Demo.Must(t, "DescribeSecurityGroup", P{"Status": "Updating"}).Int("TotalCount"); n != 0 {
			t.Errorf("%d groups are being updated", n)
		}

		add := func(code retcode.Code, rules ...string) controllertest.Response {
			t.Helper()
			return c.Demo.Refuse(t, code, "CreateSecurityGroupRule", P{"SGID": id, "Rule": rules})
		}
		c.Demo.Refuse(t, retcode.SGNotFound, "CreateSecurityGroupRule", P{"SGID": "sg-none", "Rules": good})
		c.NewTenant(t).Refuse(t, retcode.SGNotFound, "CreateSecurityGroupRule", P{"SGID": id, "Rules": good})
		c.Demo.Refuse(t, retcode.MissingParameter, "CreateSecurityGroupRule", P{"SGID": id})
		add(retcode.SGRuleDuplicated, "TCP|443,80||DROP|LOW|1")
		add(retcode.SGRuleDuplicated, "UDP|53||ACCEPT|LOW|1", "UDP|53||DROP|LOW|1")
		add(retcode.InvalidParameter, many(99)...)
		if rule := add(retcode.OK, "UDP|53|10.0.0.0/8|ACCEPT|LOW|1").String("SGRuleID"); !strings.HasPrefix(rule, "sg_rule-") {
			t.Errorf("SGRuleID %q", rule)
		}
		if g := read(); g.String("Status") != "Available" || g.Int("RuleCount") != 3 { // nothing uses it: in force at once
			t.Errorf("%v", g)
		}

		c.vm(t, P{"WANSGID": id, "LANSGID": id})
		release := c.hold(t)
		add(retcode.OK, "TCP|8080||ACCEPT|LOW|1")
		if g := read(); g.String("Status") != "Updating" {
			t.Errorf("the group is %s while hosts do not know its rules", g.String("Status"))
		}
		add(retcode.InvalidSGState, "TCP|8081||ACCEPT|LOW|1")
		release()
		controllertest.Eventually(t, 30*time.Second, "the group is Available", func() bool { return read().String("Status") == "Available" })
		in, _ := c.Fabric.(*fabric.Memory).VPC(c.vpc)
		for _, side := range []fabric.Side{fabric.Inner, fabric.Outer} {
			i := slices.IndexFunc(in.Groups, func(g fabric.Group) bool { return g.ID == id && g.Side == side })
			if i < 0 || len(in.Groups[i].Rules) != 4 || len(in.Groups[i].Members) != 1 {
				t.Errorf("%s side in the fabric: %+v", side, in.Groups)
			}
		}
		for range 8 {
			c.Demo.Must(t, "CreateSecurityGroup", P{"Name": "more", "Rule": good})
		}
		c.Demo.Refuse(t, retcode.QuotaExceeded, "CreateSecurityGroup", P{"Name": "more", "Rule": good})
	})
}

func many(n int) (rules []string) {
	for i := range n {
		rules = append(rules, fmt.Sprintf("TCP|%d|any|ACCEPT|LOW|0", i+1))
	}
	return rules
}

// TestBindRefusesWhatCannotWork: a network that is inside and outside of a VPC at once, and one address twice on a machine.
func TestBindRefusesWhatCannotWork(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		line := func(name, network string) {
			c.Admin.Must(t, "CreateSegment", P{"Name": name, "Segment": network, "Device": name})
		}
		// The company's own network is where a tenant's default subnet is.
		line("office", "10.0.0.0/25")
		vm := c.vm(t, nil)
		c.Demo.Refuse(t, retcode.InvalidParameter, "BindEIP", on(c.eip(t, P{"OperatorName": "office", "IP": "10.0.0.100"}), vm))
		if n := c.Demo.Must(t, "DescribeVPC", P{"VPCIDs": []string{c.vpc}}).Infos()[0].Int("SubnetCount"); n != 1 {
			t.Fatalf("%d subnets", n)
		}
		// An elastic NIC has the address already.
		line("lab", "192.168.9.0/24")
		vpc := c.newVPC(t, "192.168.0.0/16", nil)
		subnet := c.newSubnet(t, vpc, "192.168.8.0/24", nil)
		line("yard", "192.168.8.0/23")
		nic := c.nic(t, P{"VPCID": vpc, "SubnetID": subnet, "IP": "192.168.8.77"})
		c.Demo.Must(t, "AttachNIC", to(nic, vm))
		c.nicIs(t, nic, "Bound")
		c.Demo.Refuse(t, retcode.DuplicateIPBinding, "BindEIP", on(c.eip(t, P{"OperatorName": "yard", "IP": "192.168.8.77"}), vm))
		eip := c.eip(t, P{"OperatorName": "lab"})
		c.Demo.Must(t, "BindEIP", on(eip, vm))
		c.eipState(t, eip, "Bound")
	})
}
