package fleet_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/cloud/permit"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type P = controllertest.P

// machine are the parameters of a CreateVMInstance, changed by p.
func machine(t *testing.T, c *controllertest.Client, p P) P {
	t.Helper()
	vpc := c.Must(t, "DescribeVPC", nil).Infos()[0].String("VPCID")
	q := P{"Name": "vm", "VMType": fleet.FirstVMType, "ImageID": c.Must(t, "DescribeImage", nil).Infos()[0].String("ImageID"), "CPU": 1, "Memory": 1024,
		"BootDiskSetType": fleet.FirstStorageType, "VPCID": vpc, "SubnetID": c.Must(t, "DescribeSubnet", P{"VPCID": vpc}).Infos()[0].String("SubnetID"),
		"WANSGID": c.Must(t, "DescribeSecurityGroup", nil).Infos()[0].String("SGID"), "ChargeType": "Dynamic", "Password": "Testing.1"}
	for k, v := range p {
		q[k] = v
	}
	return q
}

// create makes a machine and waits until it runs.
func create(t *testing.T, c *controllertest.Client, p P) string {
	t.Helper()
	id := c.Must(t, "CreateVMInstance", machine(t, c, p)).String("VMID")
	controllertest.Eventually(t, 30*time.Second, "the machine runs", func() bool {
		all := c.Must(t, "DescribeVMInstance", P{"VMIDs": []string{id}}).Infos()
		return len(all) == 1 && all[0].String("State") == "Running"
	})
	return id
}

func state(c *controllertest.Cloud, id string) string {
	h, _ := c.Fleet.HostInfo(id)
	return h.State
}

// down takes a host away and waits until the fleet has declared it down.
func down(t *testing.T, c *controllertest.Cloud, id string) {
	t.Helper()
	c.Simulator.Down(id)
	c.Clock.Advance(31 * time.Second)
	controllertest.Eventually(t, 20*time.Second, id+" is down", func() bool { return state(c, id) == fleet.Down })
}

func up(t *testing.T, c *controllertest.Cloud, id string) {
	t.Helper()
	c.Simulator.Up(id)
	c.Clock.Advance(3 * time.Second)
	controllertest.Eventually(t, 20*time.Second, id+" is back", func() bool { return state(c, id) == fleet.Available })
}

func TestSetTypes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		other := c.NewTenant(t)
		types := func(client *controllertest.Client, action, field string) []string {
			t.Helper()
			r := client.Must(t, action, nil)
			var names []string
			for _, i := range r.Infos() {
				if i.String("Region") != "cn" || i.String("SetArch") != "x86_64" || i.String(field+"Alias") == "" || i.String("Permission") == "" {
					t.Errorf("%s: %v", action, i)
				}
				names = append(names, i.String(field))
			}
			if r.Int("TotalCount") != len(names) {
				t.Errorf("%s: TotalCount %d of %d", action, r.Int("TotalCount"), len(names))
			}
			return names
		}
		sets := []struct {
			id, kind, action, field, name, parameter string
			code                                     retcode.Code
		}{
			{"set-01", permit.ComputeSet, "DescribeVMType", "VMType", fleet.FirstVMType, "VMType", retcode.NoComputeSetPermission},
			{"storage-set-01", permit.StorageSet, "DescribeStorageType", "StorageType", fleet.FirstStorageType, "BootDiskSetType", retcode.NoStorageSetPermission},
		}
		for _, s := range sets {
			want := []string{s.name}
			for _, client := range []*controllertest.Client{c.Admin, c.Demo, other} {
				if got := types(client, s.action, s.field); !slices.Equal(got, want) {
					t.Errorf("%s sees %v", client.Email, got)
				}
			}
			c.Demo.Refuse(t, retcode.SetTypeNotFound, "CreateVMInstance", machine(t, c.Demo, P{s.parameter: "Unknown"}))

			c.Admin.Must(t, "UpdateResourcePermission", P{"ResourceID": s.id, "ResourceType": s.kind, "PermissionMode": "whitelist", "Permission": other.Company})
			if got := types(c.Demo, s.action, s.field); len(got) != 0 {
				t.Errorf("a tenant without permission sees %v", got)
			}
			for _, client := range []*controllertest.Client{c.Admin, other} {
				if got := types(client, s.action, s.field); !slices.Equal(got, want) {
					t.Errorf("%s sees %v of a set for one tenant", client.Email, got)
				}
			}
			c.Demo.Refuse(t, s.code, "CreateVMInstance", machine(t, c.Demo, nil))
			create(t, other, nil)
			users := c.Admin.Must(t, "DescribeResourceUsers", P{"ResourceID": s.id, "ResourceType": s.kind})
			if users.Int("TotalCount") != 1 || fmt.Sprint(users.Body["Infos"]) != fmt.Sprintf("[%d]", other.Company) {
				t.Errorf("users of %s: %v", s.id, users.Body)
			}
			c.Admin.Must(t, "UpdateResourcePermission", P{"ResourceID": s.id, "ResourceType": s.kind, "PermissionMode": "blacklist", "Permission": other.Company})
			if got := types(other, s.action, s.field); len(got) != 0 {
				t.Errorf("an excluded tenant sees %v", got)
			}
			c.Admin.Must(t, "UpdateResourcePermission", P{"ResourceID": s.id, "ResourceType": s.kind})
		}
		create(t, c.Demo, nil)
		p := P{"ResourceID": "set-99", "ResourceType": permit.ComputeSet}
		c.Admin.Refuse(t, retcode.SetNotFound, "UpdateResourcePermission", p)
		c.Admin.Refuse(t, retcode.SetNotFound, "DescribeResourceUsers", p)
		c.Demo.Refuse(t, retcode.AdminOnly, "UpdateResourcePermission", p)
		c.Demo.Refuse(t, retcode.AdminOnly, "DescribeResourceUsers", p)
		p = P{"ResourceID": "set-01", "ResourceType": permit.ComputeSet, "PermissionMode": "whitelist", "Permission": "1"}
		c.Admin.Refuse(t, retcode.TenantNotFound, "UpdateResourcePermission", p)
		p["Permission"] = "all"
		c.Admin.Refuse(t, retcode.InvalidParameterFormat, "UpdateResourcePermission", p)
		p["ResourceType"] = "DC"
		c.Admin.Refuse(t, retcode.InvalidResourceType, "UpdateResourcePermission", p)
		p = P{"ResourceID": "set-01", "ResourceType": permit.ComputeSet, "Permission": other.Company}
		c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateResourcePermission", p)
	})
}

func TestNoRoom(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 2, CPUs: 4, MemoryMiB: 4096, DiskGB: 100})
		refuse := func(code retcode.Code, p P) {
			t.Helper()
			c.Demo.Refuse(t, code, "CreateVMInstance", machine(t, c.Demo, p))
		}
		refuse(retcode.ComputeSetInsufficient, P{"CPU": 8, "Memory": 16384})  // more memory than the set has
		refuse(retcode.HostResourceInsufficient, P{"CPU": 4, "Memory": 8192}) // the set has it, no host alone
		refuse(retcode.StorageSetInsufficient, P{"BootDiskSpace": 201})       // more disk than the set has
		refuse(retcode.HostResourceInsufficient, P{"BootDiskSpace": 150})     // the set has it, no host alone
		create(t, c.Demo, P{"CPU": 2, "Memory": 4096, "BootDiskSpace": 100})  // one host is full
		create(t, c.Demo, P{"CPU": 1, "Memory": 2048})                        // goes to the other
		refuse(retcode.ComputeSetInsufficient, P{"CPU": 2, "Memory": 4096})   // what is left is too little
		refuse(retcode.StorageSetInsufficient, P{"BootDiskSpace": 61})        // likewise
		for _, id := range c.Simulator.IDs() {
			down(t, c, id)
		}
		refuse(retcode.NoIdleComputeSet, nil)
		// Nothing of the refused ones is left.
		var taken fleet.Demand
		usages, err := c.Fleet.Usages(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range usages {
			taken.CPUs += u.CPUs
			taken.MemoryMiB += u.MemoryMiB
			taken.DiskGB += u.DiskGB
		}
		if want := (fleet.Demand{CPUs: 3, MemoryMiB: 6144, DiskGB: 140}); taken != want {
			t.Errorf("%+v taken, want %+v", taken, want)
		}
	})
}

func TestNoHostOfTheStorage(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	if err := c.DB.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewRaw(`INSERT INTO storage_set (id, region, type, alias, arch, overcommit, created_at, updated_at, generation)
			VALUES ('storage-set-02', 'cn', 'Empty', 'Empty', 'x86_64', 100, 0, 0, 0)`).Exec(ctx)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	c.Demo.Refuse(t, retcode.NoIdleStorageSet, "CreateVMInstance", machine(t, c.Demo, P{"BootDiskSetType": "Empty"}))
}

func TestReserveOneHost(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1, CPUs: 4, MemoryMiB: 4096, DiskGB: 100})
		host := c.Simulator.IDs()[0]
		reserve := func(d fleet.Demand) error {
			return db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error { return c.Fleet.Reserve(ctx, tx, host, d) })
		}
		for name, r := range map[string]struct {
			d    fleet.Demand
			code retcode.Code
		}{
			"CPU":    {fleet.Demand{CPUs: 5}, retcode.HostCPUInsufficient},
			"memory": {fleet.Demand{CPUs: 1, MemoryMiB: 4097}, retcode.HostMemoryInsufficient},
			"disk":   {fleet.Demand{DiskGB: 101}, retcode.StorageSetInsufficient},
		} {
			if err := reserve(r.d); retcode.Of(err) != r.code {
				t.Errorf("too little %s: %v", name, err)
			}
		}
		whole := fleet.Demand{CPUs: 4, MemoryMiB: 4096, DiskGB: 100}
		if err := reserve(whole); err != nil {
			t.Fatal(err)
		}
		if err := reserve(fleet.Demand{CPUs: 1}); retcode.Of(err) != retcode.HostCPUInsufficient {
			t.Errorf("a full host: %v", err)
		}
		if err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error { return c.Fleet.Release(ctx, tx, host, whole) }); err != nil {
			t.Fatal(err)
		}
		down(t, c, host)
		if err := reserve(fleet.Demand{CPUs: 1}); retcode.Of(err) != retcode.SystemBusy {
			t.Errorf("a host that is down: %v", err)
		}
		up(t, c, host)
		if err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewRaw(`UPDATE host SET locked = TRUE WHERE id = ?`, host).Exec(ctx)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := reserve(fleet.Demand{CPUs: 1}); retcode.Of(err) != retcode.HostLocked {
			t.Errorf("a locked host: %v", err)
		}
	})
}

// TestNoOvercommit: many placements and releases at once never take more of a host than it has, and
// in the end the rows say what is out.
func TestNoOvercommit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		const hosts, cpus = 3, 5
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: hosts, CPUs: cpus, MemoryMiB: 1 << 20, DiskGB: 10000})
		spot := fleet.Spot{Region: "cn", VMType: fleet.FirstVMType, StorageType: fleet.FirstStorageType, Arch: "x86_64", Demand: fleet.Demand{CPUs: 2, MemoryMiB: 1024, DiskGB: 40}}
		var mu sync.Mutex
		out := map[string]int{}
		placed, refused := 0, 0
		var group sync.WaitGroup
		for n := range 8 {
			group.Go(func() {
				for i := range 15 {
					candidates := c.Fleet.Candidates(spot)
					var host string
					err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) (err error) {
						host, err = c.Fleet.Place(ctx, tx, spot, candidates)
						return err
					})
					mu.Lock()
					if err != nil {
						if code := retcode.Of(err); code != retcode.HostResourceInsufficient && code != retcode.ComputeSetInsufficient {
							t.Error(err)
						}
						refused++
						mu.Unlock()
						continue
					}
					placed++
					if out[host]++; out[host]*2 > cpus {
						t.Errorf("host %s carries %d", host, out[host])
					}
					keep := (n+i)%10 == 0
					if !keep {
						out[host]--
					}
					mu.Unlock()
					if !keep {
						if err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error { return c.Fleet.Release(ctx, tx, host, spot.Demand) }); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		group.Wait()
		usages, err := c.Fleet.Usages(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range usages {
			if n := out[u.HostID]; u.Demand != (fleet.Demand{CPUs: 2 * n, MemoryMiB: 1024 * n, DiskGB: 40 * n}) {
				t.Errorf("host %s: the row says %+v, %d are out", u.HostID, u.Demand, n)
			}
		}
		if placed < hosts || refused == 0 {
			t.Errorf("%d placed, %d refused: the test tested nothing", placed, refused)
		}
	})
}

func TestPlacementSpreads(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 4})
	spot := fleet.Spot{Region: "cn", VMType: fleet.FirstVMType, StorageType: fleet.FirstStorageType, Demand: fleet.Demand{CPUs: 1, MemoryMiB: 1024, DiskGB: 40}}
	seen := map[string]int{}
	for range 8 {
		candidates := c.Fleet.Candidates(spot)
		if err := c.DB.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
			host, err := c.Fleet.Place(ctx, tx, spot, candidates)
			seen[host]++
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	// A health call may bring a count that is one placement old, so that a host gets its third before another its second.
	for _, id := range c.Simulator.IDs() {
		if seen[id] < 1 || seen[id] > 3 {
			t.Errorf("8 placements on 4 equal hosts: %v", seen)
			break
		}
	}
}

// TestArchitecture: what is of an architecture is placed on hosts of it: by belief, by the rows, and where an administrator says.
func TestArchitecture(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 3})
		ids := c.Simulator.IDs()
		c.Simulator.SetArch(ids[1], "aarch64")
		c.Clock.Advance(3 * time.Second)
		spot := fleet.Spot{Region: "cn", VMType: fleet.FirstVMType, StorageType: fleet.FirstStorageType, Demand: fleet.Demand{CPUs: 1, MemoryMiB: 1024, DiskGB: 40}}
		of := func(arch string) []string {
			spot.Arch = arch
			return slices.Sorted(slices.Values(c.Fleet.Candidates(spot)))
		}
		controllertest.Eventually(t, 20*time.Second, "the ARM host is known as one", func() bool {
			return slices.Equal(of("aarch64"), ids[1:2]) && slices.Equal(of("x86_64"), []string{ids[0], ids[2]})
		})
		for arch, hosts := range map[string][]string{"aarch64": ids[1:2], "x86_64": {ids[0], ids[2]}} {
			for _, candidates := range [][]string{of(arch), nil, nil} {
				if err := c.DB.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
					host, err := c.Fleet.Place(ctx, tx, spot, candidates)
					if err == nil && !slices.Contains(hosts, host) {
						t.Errorf("%s is placed on %s", arch, host)
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
			for _, id := range ids {
				err := c.DB.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error { return c.Fleet.PlaceOn(ctx, tx, spot, id) })
				if (err == nil) != slices.Contains(hosts, id) || err != nil && retcode.Of(err) != retcode.NoIdleComputeSet {
					t.Errorf("%s on %s: %v", arch, id, err)
				}
			}
		}
	})
}

func TestHealth(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 3})
	ids := c.Simulator.IDs()
	// A jump of the clock declares nobody down that answers.
	c.Clock.Advance(24 * time.Hour)
	time.Sleep(300 * time.Millisecond) // gives a wrong verdict the time to come; a right one changes nothing
	for _, id := range ids {
		if state(c, id) != fleet.Available {
			t.Errorf("%s is %s after the clock jumped", id, state(c, id))
		}
	}
	// A host that misses a call is not down yet.
	c.Simulator.FailNext("Health", 1, ids[0])
	c.Clock.Advance(4 * time.Second)
	time.Sleep(300 * time.Millisecond)
	if state(c, ids[0]) != fleet.Available {
		t.Error("one missed call and the host is " + state(c, ids[0]))
	}
	down(t, c, ids[1])
	if _, err := c.Fleet.Host(ids[1]).List(t.Context(), &pb.ListRequest{}); fleet.IgnoreDown(err) != nil || err == nil {
		t.Errorf("a call to a host that is down: %v", err)
	}
	if _, err := c.Fleet.Host(ids[2]).List(t.Context(), &pb.ListRequest{}); err != nil {
		t.Errorf("a call to another host: %v", err)
	}
	if _, err := c.Fleet.Host("host-unknown").List(t.Context(), &pb.ListRequest{}); fleet.IgnoreDown(err) != nil || err == nil {
		t.Errorf("a call to an unknown host: %v", err)
	}
	// Down survives a restart of the controller: it is in the row.
	var rows int
	if err := c.DB.Reader().NewRaw(`SELECT count(*) FROM host WHERE down`).Scan(t.Context(), &rows); err != nil || rows != 1 {
		t.Errorf("%d rows are down, %v", rows, err)
	}
	up(t, c, ids[1])
}

// TestReturningHostIsCleaned deletes a machine whose host is dead: it must succeed, and what the host still
// has is removed when it comes back, while what is wanted stays.
func TestReturningHostIsCleaned(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	host := c.Simulator.IDs()[0]
	gone, stays := create(t, c.Demo, nil), create(t, c.Demo, nil)
	down(t, c, host)
	c.Demo.Must(t, "DeleteVMInstance", P{"VMID": gone})
	controllertest.Eventually(t, 30*time.Second, "the machine is in the bin", func() bool {
		for _, i := range c.Demo.Must(t, "DescribeRecycledResource", nil).Infos() {
			if i.String("ResourceID") == gone && i.String("State") == "Deleted" {
				return true
			}
		}
		return false
	})
	c.Demo.Must(t, "TerminateResource", P{"ResourceID": gone})
	controllertest.Eventually(t, 30*time.Second, "the machine is destroyed", func() bool {
		return len(c.Demo.Must(t, "DescribeRecycledResource", nil).Infos()) == 0
	})
	// A host that goes away again while it is cleaned is cleaned at the next try.
	c.Simulator.FailNext("List", 1, host)
	up(t, c, host)
	have, err := c.Fleet.Host(host).List(t.Context(), &pb.ListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(have.Domains) != 1 || have.Domains[0].Id != stays || len(have.Volumes) != 1 {
		t.Errorf("after its return the host has %v", have)
	}
}

func TestLockedHost(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 2})
		ids := c.Simulator.IDs()
		lock, unlock := P{"HostID": ids[0]}, P{"HostID": ids[0]}
		c.Demo.Refuse(t, retcode.AdminOnly, "LockHost", lock)
		c.Admin.Refuse(t, retcode.ResourceNotFound, "LockHost", P{"HostID": "host-unknown"})
		c.Admin.Refuse(t, retcode.ResourceNotFound, "UnlockHost", P{"HostID": "host-unknown"})
		c.Admin.Refuse(t, retcode.InvalidResourceState, "UnlockHost", unlock)
		runs, stopped := create(t, c.Demo, nil), create(t, c.Demo, nil)
		where := func(vm string) string {
			for _, id := range ids {
				have, err := c.Fleet.Host(id).List(t.Context(), &pb.ListRequest{})
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range have.Domains {
					if d.Id == vm {
						return id
					}
				}
			}
			return ""
		}
		if where(runs) == where(stopped) {
			t.Fatalf("two machines on one of two empty hosts")
		}
		lock["HostID"], unlock["HostID"] = where(stopped), where(stopped)
		c.Demo.Must(t, "StopVMInstance", P{"VMID": stopped})
		c.Demo.OPLog(t, "StopVMInstance", stopped)
		c.Admin.Must(t, "LockHost", lock)
		c.Admin.Refuse(t, retcode.HostLocked, "LockHost", lock)
		if e := c.Admin.OPLog(t, "LockHost", where(stopped)); e.String("ResourceID") != where(stopped) {
			t.Errorf("audit entry %v", e)
		}
		// Nothing new goes there, what is stopped there does not start, what runs runs on.
		for range 3 {
			if id := create(t, c.Demo, nil); where(id) != where(runs) {
				t.Error("a machine was placed on a locked host")
			}
		}
		c.Demo.Refuse(t, retcode.HostLocked, "StartVMInstance", P{"VMID": stopped})
		if h, _ := c.Fleet.HostInfo(where(stopped)); h.State != fleet.Locked {
			t.Errorf("the host is %s", h.State)
		}
		c.Admin.Must(t, "UnlockHost", unlock)
		c.Demo.Must(t, "StartVMInstance", P{"VMID": stopped})
	})
}

func TestGateways(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 3})
	ids := c.Simulator.IDs()
	gateways := func() []string { return c.Fleet.GatewayChassis("cn", "provider") }
	if !slices.Equal(gateways(), ids) {
		t.Fatalf("gateways %v, want %v", gateways(), ids)
	}
	if got := c.Fleet.GatewayChassis("cn", "another"); len(got) != 0 {
		t.Errorf("gateways of a network that no host has: %v", got)
	}
	down(t, c, ids[0])
	if want := ids[1:]; !slices.Equal(gateways(), want) {
		t.Errorf("with one host down: %v, want %v", gateways(), want)
	}
	up(t, c, ids[0])
	if want := ids[1:]; !slices.Equal(gateways(), want) {
		t.Errorf("right after its return: %v, want %v", gateways(), want)
	}
	c.Clock.Advance(61 * time.Second)
	if want := []string{ids[1], ids[2], ids[0]}; !slices.Equal(gateways(), want) {
		t.Errorf("a minute after its return: %v, want %v", gateways(), want)
	}
	if mtu := c.Fleet.OverlayMTU("cn"); mtu != 1442 {
		t.Errorf("MTU %d", mtu)
	}
}

// BenchmarkCandidates is a whole decision over 5,000 hosts, the guarded update apart. The target is 2,000 a second.
func BenchmarkCandidates(b *testing.B) {
	c := controllertest.Start(b, controllertest.Options{Hosts: 5000})
	spot := fleet.Spot{Region: "cn", VMType: fleet.FirstVMType, StorageType: fleet.FirstStorageType, Arch: "x86_64", Demand: fleet.Demand{CPUs: 1, MemoryMiB: 1024, DiskGB: 40}}
	for b.Loop() {
		if len(c.Fleet.Candidates(spot)) == 0 {
			b.Fatal("no candidate")
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
}
