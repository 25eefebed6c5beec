package crash

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
)

// deed is how clients call one action. Its name is the action's.
type deed struct {
	often int // how often beside the others; 0: once
	admin bool
	// after are the actions that make what this one needs.
	after []string
	// ask makes a request of what is there; what it needs and is not there makes it none.
	ask func(u *user) p
	// then follows an accepted call.
	then func(u *user, sent p, r controllertest.Response)
}

// after names actions.
func after(actions ...string) []string { return actions }

// product is the deeds of a module, by action.
type product map[string]deed

// products are the modules whose every change is driven: a new action of theirs has to be in its table.
var products = map[string]product{
	"vm": vmDeeds, "image": imageDeeds, "disk": diskDeeds, "snapshot": snapshotDeeds, "vpc": vpcDeeds, "nic": nicDeeds, "vip": vipDeeds,
	"security_group": groupDeeds, "eip": eipDeeds, "tag": tagDeeds, "timer": timerDeeds, "recycle": recycleDeeds,
}

// TestEveryActionIsDriven: the tables hold every action of these modules that changes something, and no other.
func TestEveryActionIsDriven(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{})
	there := map[string]bool{}
	for _, a := range c.Actions() {
		table, ok := products[a.Module]
		if !ok || !a.Mutates {
			continue
		}
		there[a.Name] = true
		if d, ok := table[a.Name]; !ok {
			t.Errorf("%s of module %s is driven by nothing: say in its table how to call it", a.Name, a.Module)
		} else if a.Admin && !d.admin {
			t.Errorf("%s is for administrators", a.Name)
		}
	}
	for module, table := range products {
		for name, d := range table {
			if !there[name] {
				t.Errorf("%s is no action of module %s that changes something", name, module)
			}
			for _, before := range d.after {
				if !there[before] {
					t.Errorf("%s comes after %s, which nothing drives", name, before)
				}
			}
		}
	}
}

// draw are the names of all deeds, each as often as it is done.
func draw() (names []string, all product) {
	all = product{}
	for _, table := range products {
		for name, d := range table {
			all[name] = d
			for range max(1, d.often) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names) // so that a seed repeats its choices
	return names, all
}

// user is one client at work on one request.
type user struct {
	*load
	random  *rand.Rand
	missing bool // something that the request needs is not there
	err     error
}

// listing is an answer of a list, which clients share for a moment.
type listing struct {
	infos []controllertest.Info
	at    time.Time
}

// fresh is how old a list may be that a client chooses from: old enough to be wrong now and then.
const fresh = 300 * time.Millisecond

// list asks for the first rows of a list.
func (u *user) list(name string, more p) []controllertest.Info {
	text, _ := json.Marshal(more)
	key := name + string(text)
	u.mu.Lock()
	known, ok := u.lists[key]
	u.mu.Unlock()
	if ok && time.Since(known.at) < fresh {
		return known.infos
	}
	r, err := u.call(u.demo, name, p{"Limit": 100}, more)
	if err != nil {
		u.err, u.missing = err, true
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lists[key] = listing{r.Infos(), time.Now()}
	return r.Infos()
}

// any is a random row that a filter likes, mostly; now and then one that it does not: refusals are part of life.
func (u *user) any(infos []controllertest.Info, likes func(controllertest.Info) bool) controllertest.Info {
	if likes != nil && u.random.IntN(6) > 0 {
		infos = slices.DeleteFunc(slices.Clone(infos), func(i controllertest.Info) bool { return !likes(i) })
	}
	if len(infos) == 0 {
		u.missing = true
		return controllertest.Info{}
	}
	return infos[u.random.IntN(len(infos))]
}

// thing is a kind of resource: its list, and the fields of its id and state there.
type thing struct{ list, id, state string }

var (
	vms        = thing{"DescribeVMInstance", "VMID", "State"}
	disks      = thing{"DescribeDisk", "DiskID", "DiskStatus"}
	snapshots  = thing{"DescribeSnapshot", "SnapshotID", "SnapshotStatus"}
	images     = thing{"DescribeImage", "ImageID", "ImageStatus"}
	keyPairs   = thing{"DescribeKeyPair", "KeyPairID", ""}
	networks   = thing{"DescribeVPC", "VPCID", "State"}
	subnets    = thing{"DescribeSubnet", "SubnetID", "State"}
	nics       = thing{"DescribeNIC", "NICID", "NICStatus"}
	vips       = thing{"DescribeVIP", "VIPID", "Status"}
	groups     = thing{"DescribeSecurityGroup", "SGID", ""}
	ipGroups   = thing{"DescribeIPGroup", "IPGroupID", "Status"}
	portGroups = thing{"DescribePortGroup", "PortGroupID", "Status"}
	eips       = thing{"DescribeEIP", "EIPID", "Status"}
	physical   = thing{"DescribePhysicalIP", "PhysicalIPID", "Status"}
	segments   = thing{"DescribeSegment", "SegmentID", "Status"}
	timers     = thing{"DescribeTimer", "TimerID", ""}
	binned     = thing{"DescribeRecycledResource", "ResourceID", "State"}
)

// row is a random one of a kind, mostly in one of the states.
func (u *user) row(k thing, states ...string) controllertest.Info {
	var likes func(controllertest.Info) bool
	if len(states) > 0 {
		likes = func(i controllertest.Info) bool { return slices.Contains(states, i.String(k.state)) }
	}
	return u.any(u.list(k.list, nil), likes)
}

// a is the id of a random one of a kind, mostly in one of the states.
func (u *user) a(k thing, states ...string) string { return u.row(k, states...).String(k.id) }

// own is a random one that the load has made: what was there before stays.
func (u *user) own(k thing) controllertest.Info {
	return u.any(slices.DeleteFunc(slices.Clone(u.list(k.list, nil)), func(i controllertest.Info) bool { return !strings.HasPrefix(i.String("Name"), named) }), nil)
}

// named is how everything is called that the load makes.
const named = "crash"

// one of several.
func one[T any](u *user, of ...T) T { return of[u.random.IntN(len(of))] }

// latest is one of the last that accepted calls have left behind.
func latest[T any](u *user, left *[]T) (none T) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(*left) == 0 {
		u.missing = true
		return none
	}
	return one(u, (*left)[max(0, len(*left)-5):]...)
}

// maybe is nothing half of the time.
func (u *user) maybe(q p) p {
	if u.random.IntN(2) == 0 {
		return p{}
	}
	return q
}

// with is several requests in one.
func with(all ...p) p {
	out := p{}
	for _, q := range all {
		for k, v := range q {
			out[k] = v
		}
	}
	return out
}

// bought is what is paid for by the hour.
func bought(more p) p { return with(p{"Name": named, "ChargeType": "Dynamic", "Quantity": 1}, more) }
